"""RUN: both forms, heredocs, mounts; what it leaves in the layer."""

from __future__ import annotations

from corpus.case import BASE, Case

_MAKE = f"FROM {BASE} AS made\nRUN mkdir -p /out/d && echo made > /out/d/file\nFROM {BASE}\n"

CASES = (
    Case("run-shell", "RUN echo a > /out && echo b >> /out"),
    Case("run-exec", 'RUN ["sh", "-c", "echo $PATH \'$0\' > /out", "zero"]'),
    Case("run-removes", "RUN mkdir -p /x/y /z && touch /x/y/f /z/f\n"
         "RUN rm -r /x/y /z/f && rm /etc/group && rmdir /mnt"),
    Case("run-replaces", "RUN mkdir -p /x/y && touch /x/y/old\nRUN rm -r /x && mkdir /x && touch /x/new\n"
         "RUN rm -r /x && touch /x"),
    Case("run-kinds", "RUN mkdir -m 1777 /k && cd /k && echo f > f && ln f hard && ln -s f link && mkfifo fifo"
         " && mkdir -m 2750 d && touch -m s && chmod 6711 s"),
    Case("run-owners", "RUN touch /o /p && chown worker:extra /o && chown 1234:5678 /p && chown -h 5:6 /bin/true"),
    Case("run-user", "USER worker\nRUN id -u > /tmp/id; id -g >> /tmp/id; id -G >> /tmp/id"),
    Case("run-user-numbers", "USER 7:8\nRUN id -u > /tmp/id; id -g >> /tmp/id"),
    Case("run-workdir", "WORKDIR /w\nRUN pwd > out\nUSER worker\nRUN pwd > /tmp/out"),
    Case("run-nothing", "RUN true\nRUN ls / > /dev/null\nENV A=1"),
    Case("run-changes-mode", "RUN chmod 700 /home && chmod 4755 /bin/busybox"),
    Case("run-home", "RUN echo $HOME > /out\nUSER worker\nRUN echo $HOME > /tmp/out"),
    Case("run-streams", "RUN cat > /out; ls /proc/self/fd | wc -l > /dev/null"),
    Case("run-sbin", "RUN echo x > /dev/null && touch /tmp/x && touch /run/x /var/tmp/y"),
    Case("run-heredoc", "RUN <<EOF\necho one > /out\necho $PATH >> /out\nEOF", by=(),
         rows={"out": "f 644 0:0 'one\\n/bin\\n'"}),
    Case("run-heredoc-shebang", "RUN <<EOF\n#!/bin/sh -e\necho $0 | cut -c1-5 > /out\nEOF", by=(),
         rows={"out": "f 644 0:0 '/dev/\\n'"}),
    Case("run-heredoc-input", "RUN cat > /out <<'EOF'\n$A \"quoted\"\nEOF", by=(),
         rows={"out": "f 644 0:0 '$A \"quoted\"\\n'"}),
    Case("run-heredoc-two", "RUN cat <<A <<B > /dev/null; cat <<-C > /out\na\nA\nb\nB\n\tc\n\tC\n", by=(),
         rows={"out": "f 644 0:0 'c\\n'"}),
    Case("mount-bind", "RUN --mount=type=bind,target=/ctx cp /ctx/a /out\n"
         "RUN --mount=target=/m,source=d cat /m/c > /out2"),
    Case("mount-bind-written", "RUN --mount=type=bind,target=/ctx,rw echo x > /ctx/new && cat /ctx/new > /out"),
    Case("mount-bind-from", _MAKE + "RUN --mount=type=bind,from=made,source=/out/d,target=/m cp /m/file /out"),
    Case("mount-bind-image", f"RUN --mount=type=bind,from={BASE},source=/etc,target=/m cp /m/group /out"),
    Case("mount-cache", "RUN --mount=type=cache,target=/c echo kept > /c/x\n"
         "RUN --mount=type=cache,target=/c cp /c/x /out"),
    Case("mount-cache-id", "RUN --mount=type=cache,id=corpus-one,target=/c,sharing=locked,mode=0700,uid=7,gid=8 "
         "stat -c '%a %u %g' /c > /out && touch /c/x\n"
         "RUN --mount=type=cache,id=corpus-one,target=/other cp /other/x /out2", by_root=True),
    Case("mount-cache-from", _MAKE +
         "RUN --mount=type=cache,id=corpus-from,from=made,source=/out,target=/c cp /c/d/file /out",
         refused="begins with files"),
    Case("mount-tmpfs", "RUN --mount=type=tmpfs,target=/t touch /t/x && stat -f -c %T /t > /out"),
    Case("mount-secret", "RUN --mount=type=secret,id=s cat /run/secrets/s | wc -c > /out\n"
         "RUN --mount=type=secret,id=s,target=/key,mode=0440,uid=1,gid=2 stat -c '%a %u %g' /key > /out2",
         secrets={"s": b"a secret"}, by_root=True),
    Case("mount-secret-absent", "RUN --mount=type=secret,id=absent test ! -e /run/secrets/absent && echo none > /out"),
    Case("mount-secret-env", "RUN --mount=type=secret,id=s,env=S echo ${#S} > /out", secrets={"s": b"a secret"}, by=(),
         rows={"out": "f 644 0:0 '8\\n'"}),
    Case("mount-several", "RUN --mount=type=tmpfs,target=/t --mount=type=bind,target=/t/ctx cat /t/ctx/a > /out"),
    Case("network-none", "RUN --network=none ls /sys/class/net > /out", by=(), rows={"out": "f 644 0:0 'lo\\n'"}),
    Case("network-default", "RUN --network=default echo x > /out", by=(), rows={"out": "f 644 0:0 'x\\n'"}),
)  # fmt: skip
