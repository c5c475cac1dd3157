"""Which programs a script needs, as execve(2) and env(1) read its first line."""

from __future__ import annotations

import pytest

from initramfs.scripts import Script, read_script


@pytest.mark.parametrize(
    ("head", "script"),
    [
        pytest.param(b"#!/bin/sh\necho", Script("/bin/sh"), id="plain"),
        pytest.param(b"#! \t/bin/sh -eu\n", Script("/bin/sh"), id="blanks-and-argument"),
        pytest.param(b"#!/bin/sh", Script("/bin/sh"), id="no-newline"),
        pytest.param(b"#!/usr/bin/env\n", Script("/usr/bin/env"), id="env-alone"),
        pytest.param(b"#!/usr/bin/env bash\n", Script("/usr/bin/env", "bash"), id="env"),
        pytest.param(b"#!/bin/env\tperl \n", Script("/bin/env", "perl"), id="env-tab"),
        pytest.param(
            b"#!/usr/bin/env -S A=1 -u B -i python3 -I -S\n",
            Script("/usr/bin/env", "python3"),
            id="env-split",
        ),
        pytest.param(
            b"#!/usr/bin/env --split-string=awk -f\n", Script("/usr/bin/env", "awk"), id="env-long"
        ),
        pytest.param(
            b"#!/usr/bin/env -vS'a b' c\n", Script("/usr/bin/env", "a b"), id="env-quotes"
        ),
        pytest.param(
            b"#!/usr/bin/env -S it's\n", Script("/usr/bin/env", "it's"), id="env-odd-quote"
        ),
        pytest.param(b"#!/usr/bin/env -S ${SHELL}\n", Script("/usr/bin/env"), id="env-variable"),
        # Without -S the kernel hands over one word, and env looks for a program of that name.
        pytest.param(
            b"#!/usr/bin/env python3 -u\n", Script("/usr/bin/env", "python3 -u"), id="env-no-split"
        ),
        pytest.param(b"#!python3\n", None, id="relative"),
        pytest.param(b"#!\n/bin/sh", None, id="empty"),
        pytest.param(b"# !/bin/sh\n", None, id="comment"),
        pytest.param(b"", None, id="nothing"),
    ],
)
def test_first_line(head: bytes, script: Script | None) -> None:
    assert read_script(head) == script


def test_no_more_of_the_line_counts_than_the_kernel_reads() -> None:
    found = read_script(b"#!/" + b"x" * 4000)
    assert found == Script("/" + "x" * 253)
