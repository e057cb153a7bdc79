"""Instructions that change the config only."""

from __future__ import annotations

from corpus.case import CHARGED, Case

_REST = """
ENV KEPT2=new CHANGED=new
LABEL changed=new added=new
EXPOSE 81
VOLUME /data
"""
CASES = (
    Case("env", "ENV A=1 B='two words' C=\"three $A\"\nENV A=2 D=$A E=${A}x"),
    Case("env-old-form", "ENV A  the rest  of the line\nENV B = c"),
    Case("env-quotes", "ENV A=x\\ y B=\"q\\\"q\" C='s$A' D=\"a\\$b\" E= F=\"\""),
    Case("env-path", "ENV PATH=/opt/bin:$PATH\nENV Z=$PATH"),
    Case("env-many-lines", "ENV A=1 \\\n  # a comment\n  B=2 \\\n\n  C=3"),
    Case("label", "LABEL a=b \"c d\"=\"e f\" g='h i'\nLABEL a=again\nLABEL one two three"),
    Case("label-expanded", "ENV A=value\nLABEL key.$A=\"$A\" plain='$A' many=\"x \\\n  y\""),
    Case("expose", "ARG P=8080\nEXPOSE 80 443/tcp 53/udp $P\nEXPOSE 80"),
    Case("expose-range", "EXPOSE 7000-7003/udp 99/TCP"),
    Case("volume", "VOLUME /a /b\nVOLUME [\"/c d\", \"/e\"]\nENV V=/f\nVOLUME $V"),
    Case("user", "USER worker"),
    Case("user-with-group", "ARG U=1000\nUSER $U:extra"),
    Case("cmd-exec", 'CMD ["echo", "$HOME", "a b"]'),
    Case("cmd-shell", 'CMD echo "$HOME"   a'),
    Case("cmd-no-json", "CMD ['echo', 'single']"),
    Case("cmd-twice", 'CMD ["first"]\nCMD ["second"]'),
    Case("entrypoint-exec", 'ENTRYPOINT ["echo"]\nCMD ["a"]'),
    Case("entrypoint-shell", "CMD [\"kept\"]\nENTRYPOINT exec echo a"),
    Case("entrypoint-after-base", 'ENTRYPOINT ["echo"]'),
    Case("entrypoint-empty", f"FROM {CHARGED}\nENTRYPOINT []"),
    Case("cmd-empty", "CMD []"),
    Case("shell", 'SHELL ["/bin/ash", "-ec"]\nRUN echo $0 > /out\nCMD a b\nENTRYPOINT c d'),
    Case("stopsignal", "ARG S=USR1\nSTOPSIGNAL SIG$S"),
    Case("stopsignal-number", "STOPSIGNAL 9"),
    Case("healthcheck", "HEALTHCHECK --interval=1m30s --timeout=500ms --start-period=2s --retries=4 CMD test -e /ok"),
    Case("healthcheck-exec", 'HEALTHCHECK CMD ["true", "x"]'),
    Case("healthcheck-none", "HEALTHCHECK CMD true\nHEALTHCHECK NONE"),
    Case(
        "healthcheck-start-interval", "HEALTHCHECK --start-interval=2s CMD true", by=(),
        rows={"config.Healthcheck": '{"StartInterval": 2000000000, "Test": ["CMD-SHELL", "true"]}'},
    ),
    Case("maintainer", "MAINTAINER Some One <some@one>"),
    Case("onbuild", "ONBUILD COPY . /app\nONBUILD RUN make  -C /app\nONBUILD ENV A=$B"),
    Case("workdir", "WORKDIR /w\nWORKDIR x/y\nWORKDIR ../z\nENV D=deep\nWORKDIR $D\nRUN pwd > out"),
    Case("workdir-exists", "WORKDIR /tmp\nWORKDIR /home/"),
    Case("workdir-quoted", 'WORKDIR "/a b/c"'),
    Case("workdir-user", "USER worker\nWORKDIR /home/new/deep"),
    Case("inherits", f"FROM {CHARGED}{_REST}"),
    Case("inherits-all", f"FROM {CHARGED} AS one\nFROM one\nENV A=1"),
    Case("scratch-config", 'FROM scratch\nENV A=1\nLABEL b=c\nCMD ["/x"]'),
    Case("case-of-words", "from localhost/corpus-base:1\nenv A=1\nCopy a /A\ncMd [\"x\"]"),
    Case("directives", "# escape=`\nFROM localhost/corpus-base:1\nENV A=`$x B=a\\b C=1 `\n  D=2", by=("docker",)),
    Case("directive-syntax", "# syntax=nothing:1\nFROM localhost/corpus-base:1\nENV A=1", by=("buildah",)),
    Case("bom-and-crlf", "\ufeffFROM localhost/corpus-base:1\r\n# comment\r\nENV A=1 \\\r\n  B=2\r\nCOPY a /\r\n"),
)  # fmt: skip
