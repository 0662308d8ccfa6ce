# Every Python among "$@" as a line "edgekit-python {JSON}", and what the board is as "edgekit-board {...}". POSIX sh; the
# Python part also runs on Python 2, so that an old one can say how old it is.
facts='
import json, os, struct, sys, sysconfig
def numpy():
    try:
        from importlib.metadata import version
        return version("numpy")
    except Exception:
        return ""
def libc():
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except Exception:
        return ""
def has_venv():
    try:
        import venv
        return True
    except ImportError:
        return False
names = ("SOABI", "HOST_GNU_TYPE", "MULTIARCH", "Py_GIL_DISABLED")
sys.stdout.write("\nedgekit-python " + json.dumps({
    "executable": os.path.realpath(sys.executable or ""),
    "version": list(sys.version_info[:3]),
    "implementation": getattr(getattr(sys, "implementation", None), "name", ""),
    "machine": os.uname()[4],
    "bits": struct.calcsize("P") * 8,
    "build": dict((name, str(sysconfig.get_config_var(name) or "")) for name in names),
    "libc": libc(),
    "venv": has_venv(),
    "numpy": numpy(),
}) + "\n")
'
for python in "$@"; do
    case $python in "~/"*) python=$HOME/${python#"~/"} ;; esac
    if found=$(command -v "$python" 2>/dev/null); then
        "$found" -I -c "$facts" </dev/null 2>/dev/null || "$found" -E -c "$facts" </dev/null 2>/dev/null || true
    fi
done
printf '\nedgekit-board %s\n' "$(uname -sm)"
