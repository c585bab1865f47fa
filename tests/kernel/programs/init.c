// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The first process in User Mode Linux. Its root is the run's own directory on the host. It mounts
 * the Debian root read-only, the usual file systems in it, and the run's directory on its /mnt;
 * runs /mnt/guest.sh there; powers off.
 *
 * Environment, from the kernel's command line, all of them directories of the host: DEBIAN and RUN;
 * LAYER, if what is in it shall lie over DEBIAN, and what is written over both, in memory; SOURCE,
 * if it shall be on /usr/src/maglens, which LAYER must then have.
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
	printf("guest init: %s: %s\n", what, strerror(errno));
	fflush(stdout);
	reboot(RB_POWER_OFF);
}

/* The bare path, as mount(2) has always taken it: mount(8) of today would say hostfs=. */
static void mount_host(const char *path, const char *at, unsigned long flags)
{
	must(mount("none", at, "hostfs", flags, path), path);
}

static void mount_layers(const char *layer)
{
	mount_host(layer, "/layer", MS_RDONLY);
	must(mount("memory", "/memory", "tmpfs", 0, NULL), "memory");
	must(mkdir("/memory/upper", 0755), "upper");
	must(mkdir("/memory/work", 0755), "work");
	must(mount("root", "/debian", "overlay", 0,
		   "lowerdir=/layer:/debian,upperdir=/memory/upper,workdir=/memory/work"), "overlay");
}

int main(void)
{
	const char *debian = getenv("DEBIAN"), *run = getenv("RUN");
	const char *layer = getenv("LAYER"), *source = getenv("SOURCE");
	pid_t pid;

	if (!debian || !run)
		must(-1, "DEBIAN and RUN");
	mount_host(debian, "/debian", MS_RDONLY);
	if (layer)
		mount_layers(layer);
	if (source)
		mount_host(source, "/debian/usr/src/maglens", MS_RDONLY);
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
