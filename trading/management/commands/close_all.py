"""Flatten and prove flat, from the command line, in this process: no broker, beat or worker is needed."""

import sys
import time
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.services.gateways import close_gateways, gateways_without_database
from trading.models import Halt
from trading.services import break_glass, closing, emergency
from trading.services.bells import Bells
from trading.services.halts import ScopeUnknown
from trading.services.stop_preview import preview
from trading.tasks import see_through

PAUSE_SECONDS = 0.5
CONFIRMATION = "FLATTEN"


class Command(BaseCommand):
    """Raise FLATTEN over a scope and drive it until the exchange says flat; or do it without rows."""

    help = "Close positions of the desk, a group, an account or a symbol, and prove flat."

    def add_arguments(self, parser: CommandParser) -> None:
        """Take at most one scope, a reason and a time."""
        scope = parser.add_mutually_exclusive_group()
        scope.add_argument("--account", help="only this account, by name")
        scope.add_argument("--group", help="only this group of accounts, by name")
        scope.add_argument("--symbol", help="only this symbol")
        parser.add_argument("--reason", default="close_all from the command line")
        parser.add_argument("--timeout", type=float, default=60.0, help="seconds until it gives up (60)")
        parser.add_argument("--yes", action="store_true", help="do not ask the person at the terminal")
        parser.add_argument(
            "--include-foreign", action="store_true", help="close what the desk did not open, too"
        )
        parser.add_argument(
            "--break-glass",
            action="store_true",
            help="without the database: from the exchange's positions, with keys that need no database",
        )

    def handle(self, *_: Any, **options: Any) -> None:
        """Flatten; the exit code is 0 only when flat was proven."""
        self._confirm(options)
        is_flat = self._break_glass(options) if options["break_glass"] else self._flatten(options)
        if not is_flat:
            message = "not flat: see the residuals above"
            raise CommandError(message)
        self.stdout.write(self.style.SUCCESS("flat, by the exchange's own word"))

    def _confirm(self, options: dict[str, Any]) -> None:
        """Ask whoever sits at a terminal; a script has confirmed by calling. Raises CommandError for a no."""
        if options["yes"] or not sys.stdin.isatty():
            return
        if not options["break_glass"]:
            self._name(options)
        if input(f"Type {CONFIRMATION} to close all of this at market: ").strip().upper() != CONFIRMATION:
            message = "not confirmed: nothing was done"
            raise CommandError(message)

    def _name(self, options: dict[str, Any]) -> None:
        try:
            reach = preview(_scope(options))
        except ScopeUnknown as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{reach.scope}: {reach.positions} positions on {reach.accounts} accounts")
        for one in reach.foreign:
            fate = "closed too" if options["include_foreign"] else "not touched"
            self.stdout.write(f"foreign, {fate}: {one.account.name} {one.quantity:f} {one.symbol}")

    def _flatten(self, options: dict[str, Any]) -> bool:
        try:
            halt, bells = emergency.raise_halt(
                _scope(options),
                "FLATTEN",
                options["reason"],
                "command line",
                settings.CLOCK.now(),
                includes_foreign=options["include_foreign"],
            )
        except ScopeUnknown as error:
            raise CommandError(str(error)) from error
        until = time.monotonic() + options["timeout"]
        _go_on(bells)
        while not emergency.prove_flat(halt, settings.CLOCK.now()) and time.monotonic() < until:
            _go_on(emergency.carry_out(halt, settings.CLOCK.now()))
            time.sleep(PAUSE_SECONDS)
        return self._tell(halt)

    def _tell(self, halt: Halt) -> bool:
        for name, result in sorted(halt.result["accounts"].items()):
            left = ", ".join(
                f"{one.get('symbol', '')} {one['reason']}".strip() for one in result["residuals"]
            )
            named = ", ".join(one["symbol"] for one in result.get("foreign", ()))
            state = f"flat after {result['seconds_to_flat']:.1f} s" if result["is_flat"] else f"LEFT: {left}"
            self.stdout.write(f"{name}: {state}" + (f" (foreign, not touched: {named})" if named else ""))
        self.stdout.write(f"entries stay halted ({halt}); resume is explicit")
        return bool(halt.result.get("flat_at"))

    def _break_glass(self, options: dict[str, Any]) -> bool:
        if options["group"]:
            message = "--group needs the database: with --break-glass name an account or close everything"
            raise CommandError(message)
        gateways = gateways_without_database(options["account"] or "")
        if not gateways:
            message = "no account's key can be had without the database"
            raise CommandError(message)
        try:
            results = break_glass.flatten(gateways, options["symbol"] or "", options["timeout"])
        finally:
            close_gateways()
        for result in results:
            state = "flat" if result.is_flat else "LEFT: " + ", ".join(result.residuals + result.problems)
            self.stdout.write(f"{result.account}: {result.sent} closes sent, {state}")
        return all(result.is_flat for result in results)


def _go_on(bells: Bells) -> None:
    """See the closes through here, those of dead workers too: no sweep may be there to take them up."""
    see_through(bells.add(closing.take_over(bells.positions, settings.CLOCK.now())))


def _scope(options: dict[str, Any]) -> str:
    for kind in ("account", "group", "symbol"):
        if options[kind]:
            return f"{kind}:{options[kind]}"
    return "desk"
