"""A board while it is set up: the actions of ``onboard`` run there, and what they refuse as messages."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping
from typing import Any

from edgekit_device.text import clean_text

from ..errors import DeviceError, EdgekitError, UsageError
from .connection import Connection
from .onboard import MARK, onboard_script
from .pythons import CPU_TOO_OLD

__all__ = ["QUICK_S", "SLOW_S", "Refusal", "SetupBoard"]

QUICK_S = 120.0
SLOW_S = 1800.0  # an SD card and a 1 GHz core unpack a hundred megabytes
CAP = 300
ANSWER_CAP = 1 << 20


class Refusal(Exception):
    """An action's refusal: ``kind`` and the facts of it, as the board gave them."""

    def __init__(self, answer: Mapping[str, Any]) -> None:
        super().__init__(clean_text(answer.get("error"), 40))
        self.kind = str(self)
        self.answer = answer

    def say(self, name: str) -> str:
        """A fact as printable text."""
        value = self.answer.get(name)
        return clean_text(str(value) if isinstance(value, int) else value, CAP)

    def owner(self, name: str) -> dict[str, str]:
        """Who holds something, as printable text."""
        value = self.answer.get(name)
        return (
            {clean_text(key): clean_text(str(text), 80) for key, text in value.items()}
            if isinstance(value, dict)
            else {}
        )


class SetupBoard:
    """The board behind ``connection``, where ``python`` runs the actions on ``home``."""

    def __init__(self, connection: Connection, python: str, home: str) -> None:
        self.connection = connection
        self.python = python
        self.home = home

    def ask(self, action: str, *, deadline_s: float = QUICK_S, **task: Any) -> dict[str, Any]:
        """Run an action; raises Refusal where the board refuses it, DeviceError where it answers rubbish."""
        done = self.connection.execute(
            [self.python, "-I", "-", action, json.dumps({"home": self.home, **task})],
            deadline_s=deadline_s,
            stdin=onboard_script().encode(),
        )
        answer = _answer(done.stdout)
        if answer is None:
            how = f"did not end within {deadline_s:g} s" if done.timed_out else f"ended with exit code {done.exit_code}"
            said = clean_text(done.stderr.strip().rpartition("\n")[2], CAP) or "it said nothing"
            raise DeviceError(f"{self.connection.name}: the setup's {action} {how}: {said}", output=done.stderr)
        if "error" in answer:
            raise Refusal(answer)
        return answer

    def error(self, refusal: Refusal) -> EdgekitError:
        """The refusal as the error a user sees."""
        name, say = self.connection.name, refusal.say
        if refusal.kind == "foreign":
            return self._foreign(refusal)
        if refusal.kind == "locked":
            return DeviceError(_locked(name, refusal))
        if refusal.kind == "busy":
            holder = refusal.owner("holder")
            who, verb = holder.get("holder") or "somebody", holder.get("verb") or "a measurement"
            return DeviceError(f"{name} is in use by {who} ({verb}). Run this again when that is done")
        if refusal.kind == "undelivered":
            return UsageError(
                f"{name} has {say('count')} in {say('home')}/outbox that nobody has fetched. Fetch what waits: edgekit "
                f"device collect {name}; or remove it all the same, with --force"
            )
        if refusal.kind == "broken":
            return DeviceError(_broken(name, refusal), output=say("said"))
        messages = {
            "disk": f"{name}'s disk is full ({say('said')}). It is as it was before; free some space and run this again",
            "files": f"{name} refuses to change its files: {say('said')}. Look after the owner and the mode of {self.home} there",
            "venv": f"{self.python} on {name} cannot make a virtual environment: {say('said')}. Install what it lacks there: "
            "sudo apt-get install python3-venv",
            "damaged": f"the wheel {say('wheel')} is damaged: {say('why')}",
            "lost-lock": f"somebody else took over the setup of {name}: {refusal.owner('owner').get('holder', 'not known')}",
        }
        return DeviceError(
            messages.get(refusal.kind, f"{name} refuses the setup: {refusal.kind or 'it does not say why'}")
        )

    def _foreign(self, refusal: Refusal) -> UsageError:
        entries = refusal.answer.get("entries")
        seen = ", ".join(clean_text(entry, 40) for entry in entries[:3]) if isinstance(entries, list) else ""
        home = refusal.say("home") or self.home
        holds = f" (it holds {seen} …)" if seen else ""
        return UsageError(
            f"{home} on {self.connection.name} is there and is not edgekit's{holds}; it is left untouched. Move it away there, "
            f"to {home}.mine for instance, and run this again"
        )


def _locked(name: str, refusal: Refusal) -> str:
    owner = refusal.owner("owner")
    who = owner.get("holder") or "somebody"
    since = f" since {owner['since']}" if owner.get("since") else ""
    return (
        f"{name} is being set up by {who}{since}. Wait for it; should that setup be dead, run this again in half an hour, "
        f"or remove {refusal.say('lock')} there"
    )


def _broken(name: str, refusal: Refusal) -> str:
    """The environment was made and its runtime does not run: why, as far as it can be told."""
    said = refusal.answer.get("said")
    lines = [clean_text(line, CAP) for line in said.splitlines()] if isinstance(said, str) else []
    telling = next((line for line in reversed(lines) if line), "it said nothing")
    code = refusal.answer.get("exit_code")
    illegal = "SIGILL" in telling or "llegal instruction" in telling or code == -signal.SIGILL
    hint = f". {CPU_TOO_OLD}" if illegal else ""
    return (
        f"the {refusal.say('runtime')} runtime does not run on {name}: {telling}{hint}. The board is as it was before"
    )


def _answer(text: str) -> dict[str, Any] | None:
    """The last line with our mark, as hostile text."""
    for line in reversed(text[-ANSWER_CAP:].splitlines()):
        mark, _, rest = line.partition(" ")
        if mark == MARK:
            try:
                value = json.loads(rest)
            except (ValueError, RecursionError):
                return None
            return value if isinstance(value, dict) else None
    return None
