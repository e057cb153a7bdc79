"""Forms of expansion, where ARG and ENV are seen."""

from __future__ import annotations

from corpus.case import BASE, Case

_SET = "ENV SET=set EMPTY=\n"
_PATTERNS = """ENV V=one/two/two.tar.gz
ENV A=${V#*/} B=${V##*/} C=${V%.*} D=${V%%.*} E=${V/two/2} F=${V//two/2} G=${V#one?} H=${V%[a-z]z}
"""

CASES = (
    Case("expand-default", _SET + "ENV A=${SET:-d} B=${EMPTY:-d} C=${NONE:-d}"),
    Case("expand-default-unset", _SET + "ENV A=${SET-d} B=${EMPTY-d} C=${NONE-d}", by=(),
         rows={"config.Env": '["PATH=/bin", "SET=set", "EMPTY=", "A=set", "B=", "C=d"]'}),
    Case("expand-alternative", _SET + "ENV A=${SET:+d} B=${EMPTY:+d} C=${NONE:+d}"),
    Case("expand-alternative-unset", _SET + "ENV A=${SET+d} B=${EMPTY+d} C=${NONE+d}", by=(),
         rows={"config.Env": '["PATH=/bin", "SET=set", "EMPTY=", "A=d", "B=d", "C="]'}),
    Case("expand-required", _SET + "ENV A=${SET:?why} B=${SET?why}", by=("docker",)),
    Case("expand-nested", _SET + "ENV A=${NONE:-${SET}x} B=${NONE:-${NONE2:-deep}} C=\"${SET:+in $SET}\""),
    Case("expand-patterns", _PATTERNS, by=(), rows={
        "config.Env": '["PATH=/bin", "V=one/two/two.tar.gz", "A=two/two.tar.gz", "B=two.tar.gz", '
                      '"C=one/two/two.tar", "D=one/two/two", "E=one/2/two.tar.gz", "F=one/2/2.tar.gz", '
                      '"G=two/two.tar.gz", "H=one/two/two.tar.gz"]'}),
    Case("expand-escapes", "ENV A=x\nENV B=\\$A C=\\${A} D='$A' E=\"$A\" F=$A$A G=${A}_ H=$A-b I=\\\\x"),
    Case("expand-unset", "ENV A=$NOTHING B=x${NOTHING}y C=$ D=a$"),
    Case("expand-at-once", "ENV A=old\nENV A=new B=$A\nENV C=$A"),
    Case("expand-everywhere", """ENV D=/dir F=a P=99 U=worker S=SIGHUP
COPY $F ${D}/
ADD ${F} $D/added
WORKDIR $D
EXPOSE ${P}
VOLUME $D/v
USER $U
STOPSIGNAL $S
LABEL l=$F
CMD echo $F
ENTRYPOINT ["$F"]
"""),
    Case("arg", "ARG A\nARG B=default\nARG C=$B-c\nENV X=$A Y=$B Z=$C\nRUN echo $A $B $C > /out", args={"A": "given"}),
    Case("arg-overridden", "ARG A=default\nENV X=$A\nARG A=again\nENV Y=$A", args={"A": "given"}),
    Case("arg-many", "ARG A=1 B=2 C\nENV X=$A$B$C", args={"C": "3"}),
    Case("arg-and-env", "ARG A=arg\nENV A=env\nRUN echo $A > /out\nENV B=$A"),
    Case("arg-of-the-head", f"ARG BASE={BASE}\nARG V=1\nFROM $BASE\nENV X=$V\nARG V\nENV Y=$V\nARG V=2\nENV Z=$V"),
    Case("arg-head-default", "ARG NAME\nFROM localhost/${NAME:-corpus-base}:1\nENV A=1"),
    Case("arg-of-a-stage", f"FROM {BASE} AS one\nARG A=one\nENV B=$A\nFROM one\nENV C=$A$B"),
    Case("arg-predefined", "RUN echo $HTTP_PROXY-$no_proxy > /out", args={"HTTP_PROXY": "p", "no_proxy": "q"}),
    Case("arg-platform", "ARG TARGETPLATFORM\nARG TARGETOS\nARG TARGETARCH\nARG BUILDPLATFORM\n"
         "ENV A=$TARGETPLATFORM B=$TARGETOS C=$TARGETARCH D=$BUILDPLATFORM"),
    Case("arg-quoted", "ARG A=\"x y\"\nARG B='$A'\nENV C=$A D=$B E=\"$A $B\""),
    Case("run-sees-variables", "ENV A='a b'\nARG B=\"c  d\"\n"
         "RUN printf '%s|%s|%s' \"$A\" \"$B\" \"${C:-none}\" > /out"),
    Case("comments", "# first\nENV A=1\n  # indented\nRUN echo a \\\n# between\n  b > /out\n"),
    Case("continued", "RUN echo one \\\n    two \\\n\\\n    three > /out\nENV A=a\\\nb"),
)  # fmt: skip
