# SPDX-License-Identifier: GPL-2.0-or-later
"""Payload: the files that make a Debian root the lab's guest. The initrd lays them over the root at boot."""

from pathlib import Path

from tests.vm.initrd import Item, link, text

HOME = "usr/lib/maglens-lab"
AGENT_FILES = ("__init__.py", "frames.py", "agent.py")

MASKED = [
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "fstrim.timer",
    "e2scrub_reap.service",
    "ldconfig.service",
    "systemd-hwdb-update.service",
    "systemd-journal-catalog-update.service",
    "systemd-update-done.service",
    "systemd-random-seed.service",
    "systemd-timesyncd.service",
    "systemd-networkd.service",
    "systemd-network-generator.service",
    "systemd-pstore.service",
    "systemd-firstboot.service",
    "first-boot-complete.target",
    "systemd-machine-id-commit.service",
    "console-getty.service",
    "getty@tty1.service",
    "serial-getty@ttyS0.service",
    "dkms.service",
    "systemd-remount-fs.service",
    "systemd-fsck-root.service",
    "systemd-tpm2-setup-early.service",
    "dev-hugepages.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-binfmt.service",
    "proc-sys-fs-binfmt_misc.automount",
    "wireplumber.service",
    "pipewire.socket",
]
"""Units that cost emulated seconds and do nothing for a camera."""

AGENT_UNIT = f"""[Unit]
Description=Runs the host's commands
DefaultDependencies=no
After=systemd-tmpfiles-setup-dev-early.service
Conflicts=shutdown.target

[Service]
ExecStart=/usr/bin/python3 -S -m tests.vm.agent
Environment=PYTHONPATH=/{HOME} PYTHONDONTWRITEBYTECODE=1
WorkingDirectory=/
OOMScoreAdjust=-900
KillMode=mixed
TasksMax=infinity
"""

GETTY = """[Service]
ExecStart=
ExecStart=-/sbin/agetty --autologin root --keep-baud 115200 - linux
"""

MODULE_OPTIONS = """# Four ports at super speed; loopback devices are made at run time; one test-pattern camera.
options dummy_hcd num=4 is_super_speed=1
options v4l2loopback devices=0
options vivid n_devs=1
"""

JOURNAL = """[Journal]
Storage=volatile
RateLimitIntervalSec=0
"""


def payload() -> dict[str, Item]:
    """Path in the guest -> file."""
    here = Path(__file__).parent
    files = {
        "etc/hostname": text("maglens-lab\n"),
        "etc/hosts": text("127.0.0.1 localhost maglens-lab\n"),
        "etc/fstab": text(""),
        # A fixed id: systemd would take an empty one for a first boot and apply presets.
        "etc/machine-id": text("6d61676c656e736c6162000000000001\n"),
        "etc/modprobe.d/maglens-lab.conf": text(MODULE_OPTIONS),
        "etc/modules-load.d/maglens-lab.conf": text("dummy_hcd\nlibcomposite\n"),
        "etc/systemd/journald.conf.d/maglens-lab.conf": text(JOURNAL),
        "etc/systemd/system/maglens-lab-agent.service": text(AGENT_UNIT),
        "etc/systemd/system/sysinit.target.wants/maglens-lab-agent.service": link("../maglens-lab-agent.service"),
        "etc/systemd/system/serial-getty@hvc0.service.d/autologin.conf": text(GETTY),
        f"{HOME}/tests/__init__.py": text(""),
    }
    files |= {f"{HOME}/tests/vm/{name}": text((here / name).read_text()) for name in AGENT_FILES}
    files |= {f"etc/systemd/system/{unit}": link("/dev/null") for unit in MASKED}
    return files
