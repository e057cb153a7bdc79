"""Stages, targets, platforms, triggers."""

from __future__ import annotations

from corpus.case import BASE, CHARGED, Case

_THREE = f"""FROM {BASE} AS one
RUN echo one > /one
FROM {BASE} AS two
COPY --from=one /one /two
ENV STAGE=two
FROM scratch
COPY --from=two /two /three
COPY --from=0 /one /one
"""

CASES = (
    Case("stages", _THREE),
    Case("stages-target", _THREE, target="two"),
    Case("stages-target-number", _THREE, target="1", by=(), rows={
        "config.Env": '["PATH=/bin", "STAGE=two"]', "two": "f 644 0:0 'one\\n'"}),
    Case("stages-unused", f"FROM {BASE} AS unused\nRUN false\nFROM {BASE}\nCOPY a /", by=("docker",)),
    Case("stages-of-a-stage", f"FROM {BASE} AS one\nENV A=1\nWORKDIR /w\nUSER worker\nFROM one AS two\nENV B=$A\n"
         "FROM two\nCOPY a ."),
    Case("stages-case", f"FROM {BASE} AS Upper\nRUN echo x > /x\nFROM {BASE}\nCOPY --from=upper /x /y"),
    Case("stages-shadow", f"FROM {BASE} AS corpus\nRUN echo x > /x\nFROM corpus\nCOPY a /"),
    Case("stages-diamond", f"FROM {BASE} AS root\nRUN echo r > /r\nFROM root AS left\nRUN echo l > /l\n"
         "FROM root AS right\nRUN echo s > /s\nFROM root\nCOPY --from=left /l /\nCOPY --from=right /s /r /d/"),
    Case("copy-from-image", f"FROM scratch\nCOPY --from={CHARGED} /etc/passwd /p"),
    Case("platform", f"FROM --platform=linux/amd64 {BASE}\nENV A=1"),
    Case("platform-of-the-build", f"FROM --platform=$BUILDPLATFORM {BASE}\nENV A=1", by=("docker",)),
    Case("triggers", f"FROM {CHARGED}\nENV LATER=$TRIGGERED"),
    Case("triggers-of-a-stage", f"FROM {BASE} AS one\nONBUILD COPY a /triggered\nONBUILD ENV A=1\nFROM one\nENV B=$A",
         by=("docker",)),
    Case("triggers-and-stages", f"FROM {BASE} AS one\nRUN echo 1 > /one\n"
         "ONBUILD COPY --from=0 /one /two\nFROM one AS x\nLABEL a=b", by=("docker",)),
)  # fmt: skip
