"""`edgesplit`: every command under one name; `edgesplit plan` is `plan`."""

from importlib import import_module
from typing import Any

from edgesplit.common import console

COMMANDS = {
    "plan": "edgesplit.optimizer.cli:app",
    "simulate": "edgesplit.service.cli:simulate_app",
    "trace": "edgesplit.service.cli:trace_app",
    "serve": "edgesplit.service.cli:serve_app",
    "device": "edgesplit.service.cli:device_app",
    "load": "edgesplit.service.cli:load_app",
    "reproduce": "edgesplit.reports.cli:app",
    "hwprof": "edgesplit.profiler.cli:app",
    "pai-sweep": "edgesplit.metrics.cli:app",
    "hybrid": "edgesplit.diffusion.cli:hybrid_app",
    "cluster": "edgesplit.clusters.cli:app",
    "dreambooth": "edgesplit.diffusion.cli:dreambooth_app",
}


class RootGroup(console.CommandGroup):
    """Commands that are imported when they are first asked for."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - Typer's signature
        """The names of all commands, in the order of the work."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - Typer's signature
        """The command of a name; None where there is none."""
        if cmd_name not in COMMANDS:
            return None
        module, _, app = COMMANDS[cmd_name].partition(":")
        return console.command_of(vars(import_module(module))[app])


app = console.make_app(
    "Split the denoising of personalised diffusion models between an edge server and its users' devices: measure step "
    "latencies and personalisation, plan who offloads how many steps, reproduce the paper.",
    RootGroup,
)


@app.callback()
def edgesplit() -> None:
    """Every command of edgesplit."""


def main() -> None:
    """Run `edgesplit`."""
    console.run(app, "edgesplit")
