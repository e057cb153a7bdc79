"""The front half of a build: a Dockerfile's text to values, a .dockerignore to answers. Pure: nothing is read or run.

parse      text to instructions          stages    instructions to stages, and which of them a target needs
scope      ARG and ENV, and expansion    ignore    what a context leaves out; glob: sources of COPY and ADD
"""
