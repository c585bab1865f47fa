// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The first process in User Mode Linux. Its root is the run's own directory on the host. It mounts
 * the Debian root read-only, the usual file systems in it, and the run's directory on its /mnt;
 * runs /mnt/guest.sh there; powers off.
 *
 * Environment, from the kernel's command line: DEBIAN and RUN, directories of the host.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void must(int ret, const char *what)
{
	if (ret >= 0)
		return;
	printf("init: %s: %s\n", what, strerror(errno));
	fflush(stdout);
	reboot(RB_POWER_OFF);
}

/* The bare path, as mount(2) has always taken it: mount(8) of today would say hostfs=. */
static void mount_host(const char *path, const char *at, unsigned long flags)
{
	must(mount("none", at, "hostfs", flags, path), path);
}

int main(void)
{
	const char *debian = getenv("DEBIAN"), *run = getenv("RUN");
	pid_t pid;

	if (!debian || !run)
		must(-1, "DEBIAN and RUN");
	mount_host(debian, "/debian", MS_RDONLY);
	mount_host(run, "/debian/mnt", 0);
	must(mount("proc", "/debian/proc", "proc", 0, NULL), "proc");
	must(mount("sys", "/debian/sys", "sysfs", 0, NULL), "sysfs");
	must(mount("dev", "/debian/dev", "devtmpfs", 0, NULL), "devtmpfs");
	must(mount("tmp", "/debian/tmp", "tmpfs", 0, NULL), "tmpfs");
	mount("debug", "/debian/sys/kernel/debug", "debugfs", 0, NULL); /* a plain kernel has none */
	must(chroot("/debian"), "chroot");
	must(chdir("/mnt"), "/mnt");
	pid = fork();
	if (!pid) {
		setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin", 1);
		execl("/bin/sh", "sh", "/mnt/guest.sh", NULL);
		must(-1, "/bin/sh");
	}
	while (wait(NULL) != pid)
		;
	sync();
	reboot(RB_POWER_OFF);
	return 1;
}
