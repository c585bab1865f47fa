# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab's command line: python -m tests.vm --help."""

import argparse
import io
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.vm import cache, console, host, lab, layer, machine
from tests.vm.image import EXTRA, image
from tests.vm.lab import Wish
from tests.vm.progress import LabError, say

SCENARIOS = "tests/vm/scenarios"
AGAIN = ("--last-failed",)
TESTS_FAILED = 1  # pytest's exit status


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; the exit status is its result."""
    options = _parser().parse_args(arguments)
    try:
        status = options.handle(options)
        assert isinstance(status, int)
        return status
    except LabError as error:
        print(f"vm: {error}", file=sys.stderr)
        if error.hint:
            print(f"vm: hint: {error.hint}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.vm", description="A Debian machine for tests and demo.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    image_ = commands.add_parser("image", help="build the image (and the project layer) if the cache lacks it")
    _wish_options(image_)
    image_.set_defaults(handle=_image)

    run = commands.add_parser("run", help="boot, run the scenarios, bring the results out, end")
    _wish_options(run)
    run.add_argument("--scenario", action="append", metavar="PATH", help=f"instead of all in {SCENARIOS}")
    run.add_argument(
        "--long", action="store_true", help="the scenarios that take over a minute, instead of all others"
    )
    run.add_argument("-k", metavar="EXPR", help="pytest's -k")
    run.add_argument("--keep", action="store_true", help="leave the machine up afterwards")
    run.add_argument("--name", default="", help="the machine's name with --keep; one that is up is used as it is")
    run.add_argument("--out", type=Path, default=Path("build/vm"), help="where results go (default: build/vm)")
    run.add_argument("--deadline", type=float, default=3000.0, metavar="S", help="limit in seconds (default: 3000)")
    run.add_argument("pytest", nargs="*", help="more arguments for pytest, after --")
    run.set_defaults(handle=_run)

    execute = commands.add_parser("exec", help="boot, run one command, bring /out out, end")
    _wish_options(execute)
    execute.add_argument("--out", type=Path, required=True, help="where the guest's /out goes")
    execute.add_argument("--keep", action="store_true", help="leave the machine up afterwards")
    execute.add_argument("--name", default="", help="the machine's name with --keep; one that is up is used as it is")
    execute.add_argument("--deadline", type=float, default=1200.0, metavar="S", help="limit in seconds")
    execute.add_argument("command", nargs="+", help="command and arguments, after --")
    execute.set_defaults(handle=_exec)

    shell = commands.add_parser("shell", help="boot (or join) a machine and talk to its console; ^] leaves")
    _wish_options(shell)
    shell.add_argument("--name", default="", help="join this machine, which is up")
    shell.set_defaults(handle=_shell)

    up = commands.add_parser("up", help="boot a machine that stays")
    _wish_options(up)
    _name_option(up)
    up.set_defaults(handle=_up)

    sh = commands.add_parser("sh", help="run a shell command in a machine that is up")
    _name_option(sh)
    sh.add_argument("--deadline", type=float, metavar="S", help="limit in seconds")
    sh.add_argument("command", nargs="+", help="joined by blanks and given to sh -c")
    sh.set_defaults(handle=_sh)

    push = commands.add_parser("push", help="install the tree as it is now in a machine that is up")
    _name_option(push)
    push.add_argument("--source-only", action="store_true", help="only copy the source tree (tests), no make install")
    _start_option(push)
    push.set_defaults(handle=_push)

    pull = commands.add_parser("pull", help="copy a file or directory out of a machine that is up")
    _name_option(pull)
    pull.add_argument("path", help="in the guest")
    pull.add_argument("to", type=Path, help="directory here")
    pull.set_defaults(handle=_pull)

    down = commands.add_parser("down", help="end a machine")
    _name_option(down)
    down.set_defaults(handle=_down)

    commands.add_parser("list", help="machines that are up").set_defaults(handle=_list)
    commands.add_parser("clean", help="empty the lab's cache").set_defaults(handle=_clean)
    return parser


def _wish_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--extra", action="append", default=[], choices=sorted(EXTRA), help="extra packages")
    parser.add_argument("--no-project", action="store_true", help="do not install the project in the guest")
    _start_option(parser)
    parser.add_argument("--kernel", type=Path, help="boot this kernel (bzImage) instead of Debian's")
    parser.add_argument("--modules", type=Path, help="with --kernel: its modules (INSTALL_MOD_PATH)")


def _start_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--no-start", action="store_true", help="do not enable and start maglensd after installing")


def _name_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", default="main", help="the machine's name (default: main)")


def _wish(options: argparse.Namespace) -> Wish:
    if (options.kernel is None) != (options.modules is None):
        raise LabError("--kernel and --modules go together", "make modules_install INSTALL_MOD_PATH=DIR")
    for path in (options.kernel, options.modules):
        if path is not None and not path.exists():
            raise LabError(f"{path} does not exist")
    kernel = options.kernel.resolve() if options.kernel else None
    extra = tuple(sorted(set(options.extra)))
    return Wish(extra, not options.no_project, not options.no_start, kernel, options.modules)


def _image(options: argparse.Namespace) -> int:
    host.ensure()
    built = image(_wish(options).extra)
    if not options.no_project:
        layer.archives(built)
    print(built.disk)
    return 0


def _run(options: argparse.Namespace) -> int:
    arguments = [
        *(options.scenario or [SCENARIOS]),
        *(["-m", "long" if options.long else "not long"] if not options.scenario else []),
        *(["-k", options.k] if options.k else []),
        *options.pytest,
    ]
    return _in_machine(options, lambda made: lab.pytest(made, arguments), AGAIN)


def _exec(options: argparse.Namespace) -> int:
    return _in_machine(options, lambda _: list(options.command))


def _in_machine(options: argparse.Namespace, command: lab.CommandFor, again: Sequence[str] = ()) -> int:
    """Run a command; ``again``: what to add to it for a second run where the first found tests that fail."""

    def work(made: machine.Machine) -> lab.Result:
        result = lab.run(made, command(made), out=options.out, deadline_s=options.deadline)
        if again and result.status == TESTS_FAILED and not result.kernel_trouble:
            # An emulated machine can be late for anything. A scenario that fails twice, the second time among few
            # others, has not failed for that.
            say(f"{result.summary.strip('= ')}; those that failed are run once more")
            words = [*command(made), *again]
            late = lab.failed(options.out)
            result = lab.run(made, words, out=options.out / "again", deadline_s=options.deadline)
            if result.ok:
                say(f"{len(late)} scenarios passed only the second time: {', '.join(late)}")
        return result

    if options.name and options.name in machine.names():
        result = work(machine.running(options.name))
    else:
        with lab.machine(_wish(options), name=options.name, keep=options.keep) as made:
            result = work(made)
    say(f"results are in {options.out}")
    if result.kernel_trouble:
        say(f"FAILED: the kernel log has {len(result.kernel_trouble)} bad lines, see {options.out}/kernel.log")
    sys.stderr.flush()
    if result.summary:
        print(result.summary, flush=True)
    return 0 if result.ok else result.status or 1


def _shell(options: argparse.Namespace) -> int:
    if options.name:
        return console.attach(machine.running(options.name))
    with lab.machine(_wish(options)) as made:
        return console.attach(made)


def _up(options: argparse.Namespace) -> int:
    made = lab.up(_wish(options), options.name, outlive=True)
    say(f"{made.name!r} is up: python -m tests.vm sh --name {made.name} 'uname -a'")
    return 0


def _sh(options: argparse.Namespace) -> int:
    # Unbuffered: a thread that is left waiting in a buffered read would keep the interpreter from ending.
    stdin = None if sys.stdin.isatty() else io.FileIO(0, closefd=False)
    made = machine.running(options.name)
    command = ["sh", "-c", " ".join(options.command)]
    status = made.call(command, cwd=layer.guest_directory(made), stdin=stdin, deadline_s=options.deadline)
    return status if status >= 0 else 128 - status


def _push(options: argparse.Namespace) -> int:
    made = machine.running(options.name)
    layer.push(made, layer.archives(made.image, source_only=options.source_only), start=not options.no_start)
    return 0


def _pull(options: argparse.Namespace) -> int:
    lab.pull(machine.running(options.name), options.path, options.to)
    return 0


def _down(options: argparse.Namespace) -> int:
    made = machine.running(options.name)
    made.kill()
    machine.discard(made)
    return 0


def _list(_: argparse.Namespace) -> int:
    for name in machine.names():
        made = machine.running(name)
        print(f"{name}\tLinux {made.release}\t{made.acceleration}\tpid {made.pid}")
    return 0


def _clean(_: argparse.Namespace) -> int:
    up = machine.names()
    if up:
        raise LabError(f"machines are up: {', '.join(up)}", "python -m tests.vm down --name NAME")
    cache.remove(cache.root())
    return 0


if __name__ == "__main__":
    sys.exit(main(None if len(sys.argv) > 1 else ["--help"]))
