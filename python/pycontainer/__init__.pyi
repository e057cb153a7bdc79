from pycontainer import wait as wait
from pycontainer._container import Container as Container
from pycontainer._dockerfile import Dockerfile as Dockerfile
from pycontainer._doctor import Report as Report, doctor as doctor
from pycontainer._errors import (
    AuthError as AuthError,
    BuildError as BuildError,
    CommandNotExecutable as CommandNotExecutable,
    CommandNotFound as CommandNotFound,
    ContainerEnded as ContainerEnded,
    DigestMismatch as DigestMismatch,
    Error as Error,
    ImageError as ImageError,
    ImageNotFound as ImageNotFound,
    InvalidReference as InvalidReference,
    LayerError as LayerError,
    NoSpaceError as NoSpaceError,
    NotSupported as NotSupported,
    RegistryError as RegistryError,
    RemoteError as RemoteError,
    SetupError as SetupError,
    StateError as StateError,
)
from pycontainer._failures import (
    CalledProcessError as CalledProcessError,
    LimitExceeded as LimitExceeded,
    TimeoutExpired as TimeoutExpired,
)
from pycontainer._files import Change as Change
from pycontainer._image import Image as Image
from pycontainer._limits import IoLimit as IoLimit, Limits as Limits, NetworkLimit as NetworkLimit
from pycontainer._listening import events as events
from pycontainer._mounts import File as File, Mount as Mount
from pycontainer._process import Process as Process
from pycontainer._result import (
    Guarantee as Guarantee,
    Pressure as Pressure,
    Reason as Reason,
    Result as Result,
    Usage as Usage,
)
from pycontainer._run import run as run
from pycontainer._seccomp import Seccomp as Seccomp
from pycontainer._security import DEFAULT_CAPABILITIES as DEFAULT_CAPABILITIES, IdMap as IdMap, Security as Security
from pycontainer._types import DEVNULL as DEVNULL, INHERIT as INHERIT, PIPE as PIPE, STDOUT as STDOUT
