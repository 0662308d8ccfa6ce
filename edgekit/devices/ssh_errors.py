"""Where what ssh and a shell over there say becomes a message of edgekit's: what was expected, what came, what to type.

OpenSSH's words are its interface here: it has one exit code, 255, for everything. Whatever is not known is quoted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from edgekit_device.report import clean_text

from ..errors import DeviceError
from .address import SSHAddress

__all__ = ["connection_error", "copy_error", "lost_error", "silence_error", "start_error"]

CAP = 300

# (pattern in ssh's words, message). {name} the device, {host} the host, {at} host and port, {words} for "ssh …" by hand,
# {said} the line that matched, {1} what the pattern caught. First match wins: the cause stands before its consequences.
_CAUSES: tuple[tuple[str, str], ...] = (
    (
        r"REMOTE HOST IDENTIFICATION HAS CHANGED|Host key for .* has changed|host key .* has just been revoked",
        "{host} shows another host key than the one you know it by: it was set up anew, or another machine answers in its "
        "place. Only if you know why, forget the old key and look at the new one: {forget}; ssh {words}",
    ),
    (
        r"UNPROTECTED PRIVATE KEY FILE[\s\S]*?Permissions \S+ for '([^'\n]*)'",
        "ssh does not use the key {1}, which others on this machine can read. Make it yours alone: chmod 600 {1}",
    ),
    (
        r"Bad configuration option|Unsupported option|terminating, \d+ bad configuration|keyword .* argument|Bad owner or "
        r"permissions on (\S+)",
        "ssh does not take its configuration ({said}). Mend it, and try: ssh {words}",
    ),
    (
        r"Could not resolve hostname (\S+?):",
        "no host {1} was found ({said}). Is the name right, and the board on this network? Try: ping {1}, or give its IP "
        "address: edgekit device add {name} ssh://… --force",
    ),
    (
        r"No \S+ host key is known for|Host key verification failed|host key is known .* strict checking|authenticity of host",
        "the host key of {host} is not known here yet, and edgekit accepts none on its own. Look at it and say yes, once: "
        "ssh {words}",
    ),
    (
        r"Too many authentication failures|Permission denied \(([^)\n]*)\)|Permission denied, please try again",
        "{at} does not let you in: no key of yours is accepted, and edgekit asks for no password ({said}). Bring your key "
        "there: ssh-copy-id {words}; then try: ssh {words}",
    ),
    (
        r"no matching (\S+ ?\S*) found|Unable to negotiate",
        "ssh and {at} have no method in common ({said}). Upgrade the older of the two, or allow the method for this host in "
        "your SSH config",
    ),
    (
        r"Connection refused",
        "{at} refuses the connection: the host is up, but no SSH server listens there. Start it on the board: sudo "
        "systemctl enable --now ssh; and check the port in: edgekit device show {name}",
    ),
    (
        r"No route to host|Network is unreachable|Host is down",
        "{at} cannot be reached from here ({said}). Is the board on, and on this network? Try: ping {host}",
    ),
    (
        r"Operation timed out|Connection timed out|timed out during banner exchange|[Tt]imeout, server .* not responding",
        "{at} does not answer ({said}). Is the board on, and on this network? Try: ping {host}",
    ),
    (
        r"Session open refused by peer|open failed: administratively prohibited|stdio forwarding failed|MaxSessions",
        "the SSH server lets no session through ({said}). Look at MaxSessions, AllowTcpForwarding and ForceCommand in its "
        "/etc/ssh/sshd_config, and try: ssh {words}",
    ),
    (
        r"kex_exchange_identification|banner line contains invalid|Bad remote protocol|Connection (?:closed|reset) by",
        "{at} hung up before anyone was let in ({said}). Is it an SSH server, and has it not blocked this machine? Try: ssh "
        "{words}",
    ),
)
# How ssh complains of a jump host that hung up; and of one that could not go on to the board.
_JUMP_FAILED = re.compile(r"UNKNOWN port 65535|kex_exchange_identification: Connection closed by remote host")
_JUMP_WENT_ON = re.compile(r"stdio forwarding failed|channel \d+: open failed")


def connection_error(
    name: str, address: SSHAddress, complaints: str, said: bytes = b"", code: int = 255, *, jump: str = ""
) -> DeviceError:
    """The error of a connection that did not come about: ``complaints`` is ssh's standard error, ``said`` what the machine
    printed before its shell should have answered, ``code`` ssh's exit code, ``jump`` the jump host of the user's config."""
    words = complaints.strip()
    if code != 255 or (not words and said.strip()):
        return _no_shell(name, address, said.decode("utf-8", "replace") + "\n" + words, code)
    way, failing = "", address
    if jump:
        way = f" through the jump host {clean_text(jump, 80)} of your SSH config"
        if _JUMP_FAILED.search(words) and not _JUMP_WENT_ON.search(words):
            failing = SSHAddress(clean_text(jump, 80).rpartition(",")[2])
    return DeviceError(f"{name} is not reached{way}: {_explained(name, failing, words)}", output=complaints)


def silence_error(name: str, address: SSHAddress, said: str, limit_s: float) -> DeviceError:
    """The error of a machine that let us in and then did not run a shell."""
    heard = clean_text(said[-CAP:], CAP)
    return DeviceError(
        f"{name} did not answer within {limit_s:g} s{f', only said {heard!r}' if heard else ''}: is it hung, or does its login "
        f"shell wait for something? Try: ssh {address.words} true",
        output=said,
    )


def lost_error(name: str, address: SSHAddress, doing: str, complaints: str, code: int = 255) -> DeviceError:
    """The error of a connection that broke while ``doing`` something."""
    tail = _last(complaints)
    why = f" ({tail})" if tail else f" (ssh ended with {code})" if code != 255 else ""
    return DeviceError(
        f"the connection to {name} was lost while {doing}{why}. When it is back, run the same command again; try: ssh "
        f"{address.words}",
        output=complaints,
    )


def copy_error(name: str, what: str, reason: Sequence[str], complaints: str) -> DeviceError:
    """The error of a file that could not be copied: ``reason`` is the word of our script there, with its details."""
    key, details = (reason[0] if reason else ""), list(reason[1:])
    heard = _last(complaints)
    if key == "full":
        free = clean_text(details[0], 20) if details else "few"
        return DeviceError(
            f"cannot copy {what} to {name}: its disk is full ({free} KB free). Free some space there, and run the same command "
            "again",
            output=complaints,
        )
    known = {
        "isfolder": "a folder has that name there: remove or rename it",
        "damaged": "it arrived damaged, or changed while it was sent: run the same command again",
        "short": "the connection ended too early: run the same command again, it goes on where it stopped",
        "nofile": "it is no file there, but something else",
    }
    return DeviceError(f"cannot copy {what} to {name}: {known.get(key) or _system(heard)}", output=complaints)


def start_error(name: str, program: str, reason: str, complaints: str) -> DeviceError:
    """The error of a command that was not started: ``reason`` is ``folder`` or ``input``."""
    heard = _last(complaints)
    if reason == "folder":
        return DeviceError(
            f"{name} cannot run {program} where it should: {heard or 'no such folder'}", output=complaints
        )
    return DeviceError(f"{name} cannot keep the input of {program}: {_system(heard)}", output=complaints)


def _system(heard: str) -> str:
    """What a tool there said when the system refused it something, and what to do."""
    for pattern, advice in (
        (r"No space left on device", "its disk is full: free some space there, and run the same command again"),
        (r"Disk quota exceeded", "the user's quota there is used up: free some space there"),
        (r"File too large", "the file is larger than that user may write there (ulimit -f)"),
        (r"Read-only file system", "the file system there is read-only: remount it, or repair the card"),
        (r"Permission denied|Operation not permitted", "the user may not write there: mend the owner or the mode"),
        (r"Not a directory|File exists", "a file stands where a folder is needed: move it away there"),
        (r"Input/output error", "the disk or card there is failing: look at dmesg there, and replace it"),
    ):
        if re.search(pattern, heard):
            return f"{advice} ({heard})"
    return f"it answered {heard!r}" if heard else "it did not say why; try once more"


def _explained(name: str, address: SSHAddress, words: str) -> str:
    port = "" if address.port in (None, 22) else f" port {address.port}"
    facts = {"name": name, "host": address.host, "at": address.host + port, "words": address.words}
    facts["forget"] = _forget_key(address, words)
    for pattern, message in _CAUSES:
        found = re.search(pattern, words)
        if found:
            caught = clean_text(next((group for group in found.groups() if group), ""), 120)
            return _filled(message, {**facts, "said": _line_of(words, found.start()), "1": caught or "…"})
    tail = _last(words)
    return (
        f"ssh ended with {tail!r}. Try: ssh {address.words}"
        if tail
        else f"ssh gave no reason. Try: ssh -v {address.words}"
    )


def _forget_key(address: SSHAddress, words: str) -> str:
    """The line that forgets a host key: in the file that ssh names, where it names one."""
    told = re.search(r"^\s*ssh-keygen -f .*$", words, re.MULTILINE)
    if told:
        return clean_text(told[0], CAP)
    known = address.host if address.port in (None, 22) else f"'[{address.host}]:{address.port}'"
    return f"ssh-keygen -R {known}"


def _filled(message: str, facts: dict[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda found: facts[found[1]], message)


def _no_shell(name: str, address: SSHAddress, heard: str, code: int) -> DeviceError:
    tail = _last(heard)
    return DeviceError(
        f"{name} let you in, but its login shell did not run a command (exit {code}{f', said {tail!r}' if tail else ''}). "
        "edgekit needs a user with an ordinary shell and no ForceCommand: change it with chsh there, or name another user: "
        f"edgekit device add {name} ssh://USER@{address.host} --force",
        output=heard,
    )


def _line_of(words: str, position: int) -> str:
    start = words.rfind("\n", 0, position) + 1
    return clean_text(words[start:].partition("\n")[0].removeprefix("ssh: "), CAP)


def _last(text: str) -> str:
    lines = [clean_text(line, CAP) for line in text[-4 * CAP :].splitlines()]
    return next((line.removeprefix("ssh: ") for line in reversed(lines) if line), "")
