"""Every way ssh says no becomes one message: what came, and what to type."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.devices.address import SSHAddress
from edgekit.devices.ssh_errors import _CAUSES, connection_error, copy_error, lost_error, silence_error, start_error
from edgekit.errors import DeviceError


@pytest.fixture(autouse=True)
def no_other_config(monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's own config holds."""
    monkeypatch.delenv("EDGEKIT_SSH_CONFIG", raising=False)


ADDRESS = SSHAddress("pi.local", "pi", 2222)
# Whole standard errors of OpenSSH 8.4 to 10.0, one for each kind; the kind each is to be told as.
CHANGED = """@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
IT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!
Host key for [pi.local]:2222 has changed and you have requested strict checking.
Host key verification failed.
"""
PERMISSIONS = """@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@         WARNING: UNPROTECTED PRIVATE KEY FILE!          @
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
Permissions 0644 for '/home/me/.ssh/id_ed25519' are too open.
It is required that your private key files are NOT accessible by others.
This private key will be ignored.
Load key "/home/me/.ssh/id_ed25519": bad permissions
pi@pi.local: Permission denied (publickey).
"""
SAID = [
    (CHANGED, r"shows another host key .*ssh-keygen -R '\[pi\.local\]:2222'; ssh -p 2222 pi@pi\.local"),
    (PERMISSIONS, r"chmod 600 /home/me/\.ssh/id_ed25519"),
    ("/c: line 3: Bad configuration option: nonsense\n/c: terminating, 1 bad configuration options\n", "its configuration"),
    ("Bad owner or permissions on /home/me/.ssh/config\n", r"its configuration \(Bad owner"),
    ("ssh: Could not resolve hostname pi.local: Name or service not known\n", r"no host pi\.local was found"),
    ("ssh: Could not resolve hostname pi.local: Temporary failure in name resolution\n", "ping pi.local"),
    ("No ED25519 host key is known for pi.local and you have requested strict checking.\nHost key verification failed.\n",
     "not known here yet"),
    ("Host key verification failed.\n", r"say yes, once: ssh -p 2222 pi@pi\.local"),
    ("pi@pi.local: Permission denied (publickey,password).\n", r"does not let you in.*ssh-copy-id -p 2222 pi@pi\.local"),
    ("Received disconnect from 10.0.0.7 port 22:2: Too many authentication failures\n", "does not let you in"),
    ("Unable to negotiate with 10.0.0.7 port 22: no matching host key type found. Their offer: ssh-rsa\n", "in common"),
    ("ssh: connect to host pi.local port 2222: Connection refused\n", r"pi\.local port 2222 refuses .*systemctl enable"),
    ("ssh: connect to host pi.local port 2222: No route to host\n", r"cannot be reached .*ping pi\.local"),
    ("ssh: connect to host pi.local port 2222: Network is unreachable\n", "cannot be reached"),
    ("ssh: connect to host pi.local port 2222: Connection timed out\n", "does not answer"),
    ("Connection timed out during banner exchange\n", "does not answer"),
    ("Session open refused by peer\n", "MaxSessions"),
    ("kex_exchange_identification: Connection closed by remote host\nConnection closed by 10.0.0.7 port 22\n", "hung up"),
    ("kex_exchange_identification: banner line contains invalid characters\n", "Is it an SSH server"),
    ("Connection reset by 10.0.0.7 port 22\n", "hung up"),
    ("something that no OpenSSH says yet\n", "ssh ended with 'something that no OpenSSH says yet'"),
    ("", "ssh -v -p 2222 pi@pi.local"),
]  # fmt: skip


@pytest.mark.parametrize(("complaints", "message"), SAID)
def test_what_ssh_says_becomes_a_message(complaints: str, message: str) -> None:
    """With the device, what came, and what to type, in printable characters."""
    error = connection_error("pi4", ADDRESS, complaints)

    assert re.search(message, str(error))
    assert str(error).startswith("pi4 is not reached: ")
    assert str(error).isprintable()
    assert error.exit_code == 3
    assert error.output == complaints


def test_every_cause_is_known_by_a_word_of_ssh_s() -> None:
    """No pattern stands there that none of the samples shows."""
    shown = {
        next(p for p, _ in _CAUSES if re.search(p, said))
        for said, _ in SAID
        if any(re.search(p, said) for p, _ in _CAUSES)
    }

    assert shown == {pattern for pattern, _ in _CAUSES}


def test_a_jump_host_that_refuses_is_named_and_not_the_board() -> None:
    """Unless it was the board that refused the jump host."""
    denied = "pi@gate: Permission denied (publickey).\nkex_exchange_identification: Connection closed by remote host\n"
    beyond = "channel 0: open failed: connect failed: Connection refused\nstdio forwarding failed\n"

    assert "gate does not let you in" in str(connection_error("pi4", ADDRESS, denied, jump="gate"))
    assert "pi.local port 2222 refuses" in str(connection_error("pi4", ADDRESS, beyond, jump="gate"))
    assert "through the jump host gate" in str(connection_error("pi4", ADDRESS, beyond, jump="gate"))


def test_an_account_without_a_shell() -> None:
    """What it said instead is shown."""
    error = connection_error("pi4", ADDRESS, "", b"This account is currently \x1b[31mnot available.\n", 1)

    assert (
        "let you in, but its login shell did not run a command (exit 1, said 'This account is currently [31mnot"
        in str(error)
    )


COPIES = [
    ((["full", "123"], ""), "its disk is full \\(123 KB free\\)"),
    ((["write"], "cat: write error: No space left on device\n"), "its disk is full"),
    ((["write"], "cat: write error: Disk quota exceeded\n"), "quota"),
    ((["write"], "cat: write error: File too large\n"), "ulimit -f"),
    ((["write"], "sh: 1: cannot create x: Read-only file system\n"), "read-only"),
    ((["write"], "sh: 1: cannot create x: Permission denied\n"), "may not write there"),
    ((["folder"], "mkdir: cannot create directory 'x': Not a directory\n"), "a file stands where a folder is needed"),
    ((["folder"], "mkdir: cannot create directory 'x': File exists\n"), "a file stands where a folder is needed"),
    ((["write"], "cat: write error: Input/output error\n"), "dmesg"),
    ((["isfolder"], ""), "a folder has that name"),
    ((["damaged"], ""), "arrived damaged"),
    ((["short"], ""), "goes on where it stopped"),
    ((["nofile"], ""), "no file there"),
    ((["write"], "odd: nobody has heard of this\n"), "it answered 'odd: nobody has heard of this'"),
    ((["write"], ""), "it did not say why"),
    (([], ""), "it did not say why"),
]


@pytest.mark.parametrize(("came", "message"), COPIES)
def test_a_copy_that_failed_there_becomes_a_message(came: tuple[list[str], str], message: str) -> None:
    """With what to do there."""
    assert re.search(f"cannot copy m.tflite to pi4: .*{message}", str(copy_error("pi4", "m.tflite", *came)))


def test_a_command_that_could_not_be_started() -> None:
    """For want of a folder, or of room for its input."""
    assert "cannot run python where it should: no such folder" in str(start_error("pi4", "python", "folder", ""))
    said = str(start_error("pi4", "python", "input", "mktemp: failed: No space left on device"))
    assert "cannot keep the input of python: its disk is full" in said


@given(st.text(), st.integers(0, 255))
def test_any_words_of_ssh_are_one_printable_message(words: str, code: int) -> None:
    """Of bounded length, whatever a host sent: its banner is in there."""
    errors = [
        connection_error("pi4", ADDRESS, words, words.encode("utf-8", "replace"), code),
        connection_error("pi4", ADDRESS, words, jump=words),
        lost_error("pi4", ADDRESS, "it ran python", words, code),
        silence_error("pi4", ADDRESS, words, 5),
        copy_error("pi4", "m.tflite", words.split(), words),
        start_error("pi4", "python", "input", words),
    ]
    for error in errors:
        assert isinstance(error, DeviceError)
        assert str(error).isprintable()
        assert len(str(error)) < 1500
