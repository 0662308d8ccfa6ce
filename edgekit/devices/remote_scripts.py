"""What is run on the other machine, in POSIX sh and what every Debian has (coreutils, util-linux): no Python there yet.

How a command is ended there, whatever happens here. ``sshd`` tells a command without a terminal nothing when its client
is gone; all that changes is that its standard input ends. So the command gets other input, and the link's own end of
file is kept for a watcher:

    sshd ── sh (this script) ─┬─ setsid ── the command and its children: one process group, killed as one
                              ├─ watcher: reads the link; at its end (deadline, Ctrl-C, a crash, a cut line) kills the group
                              └─ timer: kills the group after the deadline, should the link hang and never end

The host says "end it" by closing the link, and learns how the command ended from a last line with a mark that only this
call knows, never from ssh's exit code: its 255 may be the command's own.

The script itself comes through the link, not in the command line: a login shell of any kind reads only ``bootstrap``, and
there is no limit to its length.
"""

from __future__ import annotations

import math
import secrets
import shlex
from collections.abc import Mapping, Sequence

__all__ = ["bootstrap", "execute_script", "fetch_script", "hello_script", "new_mark", "send_script"]

GRACE_S = 10  # the host ends a command at its deadline; the timer there is for a host that cannot

# Relative paths start at the user's home, which is where a login begins unless something has set HOME to another place.
_SAY = r"""
[ -z "$HOME" ] || cd "$HOME" 2>/dev/null
say() { printf '\n%s %s\n' "$mark" "$*"; }
fail() { say failed "$1"; exit 0; }
"""

_HELLO = r"""
say home "$HOME"
while read -r _; do :; done
"""

_EXECUTE = r"""
exec 3<&0 </dev/null
cd -- "$folder" || { say failed folder; exit 0; }
say begin
printf '\n%s begin\n' "$mark" >&2
input=/dev/null
if [ "$bytes" -gt 0 ]; then
    input=$(mktemp) && head -c "$bytes" <&3 >"$input" || fail input
fi
exec 4<"$input"
[ "$bytes" -eq 0 ] || rm -f -- "$input"
group=setsid
command -v setsid >/dev/null 2>&1 || group=
$group /bin/sh -c "$inner" <&4 3<&- 4<&- &
child=$!
exec 2>/dev/null 4<&-
end() { kill -KILL "-$1"; kill -KILL "$1"; }
$group /bin/sh -c 'sleep "$1"; kill -KILL "-$2"; kill -KILL "$2"' sh "$limit" "$child" >/dev/null 3<&- &
timer=$!
{ while read -r _; do :; done; end "$child"; } <&3 >/dev/null &
watcher=$!
wait "$child"
code=$?
end "$child"; end "$timer"; kill -KILL "$watcher"
say ended "$code"
"""

_DIGEST = r"""
digest() {
    sum=
    if command -v sha256sum >/dev/null; then sum=$(sha256sum <"$1")
    elif command -v python3 >/dev/null; then
        sum=$(python3 -c 'import hashlib, sys; d = hashlib.sha256()
for b in iter(lambda: sys.stdin.buffer.read(1 << 20), b""): d.update(b)
sys.stdout.write(d.hexdigest())' <"$1" 2>/dev/null)
    fi
    sum=${sum%% *}
    printf '%s' "${sum:-unknown}"
}
count() { echo $(($(wc -c <"$1"))); }
whole() { [ -f "$1" ] && [ "$(count "$1")" -eq "$size" ] && case $(digest "$1") in "$sum256" | unknown) ;; *) false ;; esac }
"""

# The aside file is named after the content, so that whoever sends this content again goes on with it: with a copy of it where
# another script still holds it, be it that of a link which broke without a word. (true: a redirection that fails for ':'
# or 'exec' ends the shell.)
_SEND = r"""
export LC_ALL=C
mkdir -p -- "$(dirname -- "$target")" || fail folder
[ ! -d "$target" ] || fail isfolder
if whole "$target"; then say have; exit 0; fi
have=0
if [ -f "$part" ]; then have=$(count "$part"); fi
if [ "$have" -gt "$size" ] || [ "$resume" -eq 0 ]; then rm -f -- "$part"; have=0; fi
true >>"$part" || fail write
exec 9>>"$part"
if command -v flock >/dev/null && ! flock -n 9; then
    cp -- "$part" "$part.$$" || { rm -f -- "$part.$$"; fail write; }
    part=$part.$$
    have=$(count "$part")
fi
free=$(df -Pk -- "$part" 2>/dev/null | awk 'NR == 2 { print $4 }' 2>/dev/null)
case $free in
'' | *[!0-9]*) ;;
*) if [ "$free" -lt $(((size - have) / 1024)) ]; then
    [ "$have" -gt 0 ] || rm -f -- "$part"
    fail "full $free"
fi ;;
esac
[ "$resume" -eq 0 ] || say from "$have"
# A slow link has megabytes under way that the host has long let go of: it is told how far they are.
{ while sleep 2 >/dev/null; do say at "$(count "$part")"; done; } </dev/null 2>/dev/null 9>&- &
ticker=$!
cat >>"$part" || { kill "$ticker"; rm -f -- "$part"; fail write; }
kill "$ticker"
[ "$(count "$part")" -eq "$size" ] || fail short
whole "$part" || { rm -f -- "$part"; fail damaged; }
mv -f -- "$part" "$target" || fail write
say done
"""

_FETCH = r"""
export LC_ALL=C
[ -e "$file" ] || fail absent
[ -f "$file" ] || fail nofile
[ -r "$file" ] || fail unreadable
size=$(count "$file")
say size "$size"
head -c "$size" <"$file"
say sum "$(digest "$file")"
"""


def new_mark() -> str:
    """A word that no output holds by accident, nor a program there can know beforehand."""
    return f"edgekit-{secrets.token_hex(12)}"


def bootstrap(script: str) -> str:
    """The command line for the login shell: read so many bytes from the link, one by one lest any be lost, and be them.

    The tools of the script are looked for in the usual places too; the command itself gets the PATH there was.
    """
    read = f"dd bs=1 count={len(script.encode())} 2>/dev/null"
    return f"exec /bin/sh -c 'path=$PATH; PATH=$PATH:/usr/bin:/bin; export path; eval \"$({read})\"'"


def hello_script(mark: str) -> str:
    """Say where the user's home is; then hold the connection until the link ends."""
    return _assigned({"mark": mark}) + _SAY + _HELLO


def execute_script(
    mark: str, command: Sequence[str], *, folder: str, environment: Mapping[str, str], bytes_in: int, deadline_s: float
) -> str:
    """Run ``command`` in ``folder`` (empty: the home) with the next ``bytes_in`` bytes of the link as its input."""
    exports = "".join(f"export {name}={shlex.quote(value)}; " for name, value in environment.items())
    facts = {
        "mark": mark,
        "folder": folder or ".",
        "bytes": str(bytes_in),
        "limit": str(math.ceil(deadline_s) + GRACE_S),
        "inner": f"PATH=$path; unset path; {exports}exec {shlex.join(command)}",
    }
    return _assigned(facts) + _SAY + _EXECUTE


def send_script(mark: str, target: str, part: str, size: int, sha256: str, *, resume: bool) -> str:
    """Take a file of ``size`` bytes from the link into ``part``, check it, and name it ``target``: what is missing of it,
    once the script has said how much is there; or all of it at once, unless ``resume``."""
    facts = {"mark": mark, "target": target, "part": part, "size": str(size), "sum256": sha256}
    facts["resume"] = str(int(resume))
    return _assigned(facts) + _SAY + _DIGEST + _SEND


def fetch_script(mark: str, file: str) -> str:
    """Give a file: its size, its bytes, its digest."""
    return _assigned({"mark": mark, "file": file}) + _SAY + _DIGEST + _FETCH


def _assigned(values: Mapping[str, str]) -> str:
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())
