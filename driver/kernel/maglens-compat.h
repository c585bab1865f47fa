/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * maglens: the differences between the kernels it builds for, 6.1 to 7.x, and nothing else.
 */
#ifndef MAGLENS_COMPAT_H
#define MAGLENS_COMPAT_H

#include <linux/fs.h>
#include <linux/hrtimer.h>
#include <linux/version.h>
#include <media/v4l2-fh.h>
#include <media/videobuf2-v4l2.h>

/* 6.18 made the V4L2 core the owner of file->private_data. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 18, 0)
static inline struct v4l2_fh *maglens_file_fh(struct file *file)
{
	return file->private_data;
}

static inline void maglens_fh_add(struct v4l2_fh *fh, struct file *file)
{
	file->private_data = fh;
	v4l2_fh_add(fh);
}

static inline void maglens_fh_del(struct v4l2_fh *fh, struct file *file)
{
	v4l2_fh_del(fh);
	file->private_data = NULL;
}
#else
static inline struct v4l2_fh *maglens_file_fh(struct file *file)
{
	return file_to_v4l2_fh(file);
}

static inline void maglens_fh_add(struct v4l2_fh *fh, struct file *file)
{
	v4l2_fh_add(fh, file);
}

static inline void maglens_fh_del(struct v4l2_fh *fh, struct file *file)
{
	v4l2_fh_del(fh, file);
}
#endif

/* 6.13 brought hrtimer_setup(), 6.15 took hrtimer_init() away. */
static inline void maglens_timer_setup(struct hrtimer *timer,
				       enum hrtimer_restart (*expired)(struct hrtimer *))
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 13, 0)
	hrtimer_init(timer, CLOCK_MONOTONIC, HRTIMER_MODE_ABS);
	timer->function = expired;
#else
	hrtimer_setup(timer, expired, CLOCK_MONOTONIC, HRTIMER_MODE_ABS);
#endif
}

/* Before 6.14 the driver had to let go of the queue's lock for a blocking DQBUF. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 14, 0)
#define MAGLENS_VB2_WAIT_OPS			\
	.wait_prepare = vb2_ops_wait_prepare,	\
	.wait_finish = vb2_ops_wait_finish,
#else
#define MAGLENS_VB2_WAIT_OPS
#endif

#endif /* MAGLENS_COMPAT_H */
