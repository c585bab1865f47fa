// SPDX-License-Identifier: GPL-2.0-only
/*
 * maglens: a V4L2 camera whose driver is a userspace process.
 *
 * This file has /dev/maglens, whose open file is the camera, and the camera's birth and death.
 */
#include <linux/ctype.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#include "maglens-camera.h"

struct workqueue_struct *maglens_wq;

/**
 * struct maglens_backend - an open file of /dev/maglens
 * @lock:	one CREATE at a time
 * @cam:	its camera: set once, by CREATE, and gone with the file
 */
struct maglens_backend {
	struct mutex lock;
	struct maglens_camera *cam;
};

static struct maglens_camera *maglens_camera_of(struct file *file)
{
	struct maglens_backend *backend = file->private_data;

	return smp_load_acquire(&backend->cam);	/* pairs with maglens_create() */
}

static ssize_t camera_id_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	const struct maglens_camera *cam = dev_get_drvdata(dev);

	return sysfs_emit(buf, "%s\n", cam->camera_id);
}
static DEVICE_ATTR_RO(camera_id);

static struct attribute *maglens_attrs[] = {
	&dev_attr_camera_id.attr,
	NULL
};
ATTRIBUTE_GROUPS(maglens);

static void maglens_camera_free(struct maglens_camera *cam)
{
	maglens_ctrls_free(cam);
	platform_device_unregister(cam->pdev);
	maglens_frame_free(cam);
	kfree(cam->inputs);
	kvfree(cam->formats);
	kfree(cam);
}

/* The last file, of whichever side, has been closed. */
static void maglens_v4l2_release(struct v4l2_device *v4l2_dev)
{
	struct maglens_camera *cam = container_of(v4l2_dev, struct maglens_camera, v4l2_dev);

	v4l2_device_unregister(v4l2_dev);
	maglens_camera_free(cam);
}

static bool maglens_id_ok(const char *id, size_t room)
{
	size_t i;

	if (!maglens_text_ok(id, room))
		return false;
	for (i = 0; id[i]; i++)
		if (!isascii(id[i]) || !(isalnum(id[i]) || strchr("._-", id[i])))
			return false;
	return true;
}

static bool maglens_interval_ok(struct maglens_fract interval)
{
	u64 us;

	if (!interval.numerator || !interval.denominator)
		return false;
	us = div_u64((u64)interval.numerator * USEC_PER_SEC, interval.denominator);
	return us >= MAGLENS_MIN_INTERVAL_US && us <= MAGLENS_MAX_INTERVAL_US;
}

static bool maglens_format_ok(const struct maglens_format *f)
{
	u32 i;

	if (!f->fourcc || !f->width || f->width > MAGLENS_MAX_DIMENSION ||
	    !f->height || f->height > MAGLENS_MAX_DIMENSION ||
	    !f->sizeimage || f->sizeimage > MAGLENS_MAX_SIZEIMAGE ||
	    (u64)f->bytesperline * f->height > f->sizeimage ||
	    !f->colorspace || f->colorspace > U8_MAX || f->ycbcr_enc > U8_MAX ||
	    f->quantization > U8_MAX || f->xfer_func > U8_MAX ||
	    !f->n_intervals || f->n_intervals > MAGLENS_MAX_INTERVALS ||
	    memchr_inv(f->reserved, 0, sizeof(f->reserved)))
		return false;
	for (i = 0; i < f->n_intervals; i++)
		if (!maglens_interval_ok(f->intervals[i]))
			return false;
	return true;
}

static int maglens_take_formats(struct maglens_camera *cam, const struct maglens_create *c)
{
	const struct maglens_format *f, *other;

	cam->formats = vmemdup_user(u64_to_user_ptr(c->formats), c->n_formats * sizeof(*f));
	if (IS_ERR(cam->formats)) {
		int ret = PTR_ERR(cam->formats);

		cam->formats = NULL;
		return ret;
	}
	cam->n_formats = c->n_formats;
	for (f = cam->formats; f < cam->formats + cam->n_formats; f++) {
		if (!maglens_format_ok(f))
			return -EINVAL;
		for (other = cam->formats; other < f; other++)
			if (other->fourcc == f->fourcc && other->width == f->width &&
			    other->height == f->height)
				return -EINVAL;
		cam->max_sizeimage = max(cam->max_sizeimage, f->sizeimage);
	}
	return 0;
}

static int maglens_take_inputs(struct maglens_camera *cam, const struct maglens_create *c)
{
	const struct maglens_input *in;

	cam->inputs = memdup_user(u64_to_user_ptr(c->inputs), c->n_inputs * sizeof(*in));
	if (IS_ERR(cam->inputs)) {
		int ret = PTR_ERR(cam->inputs);

		cam->inputs = NULL;
		return ret;
	}
	cam->n_inputs = c->n_inputs;
	for (in = cam->inputs; in < cam->inputs + cam->n_inputs; in++)
		if (!maglens_text_ok(in->name, sizeof(in->name)) ||
		    !maglens_status_ok(in->status) ||
		    memchr_inv(in->reserved, 0, sizeof(in->reserved)))
			return -EINVAL;
	return 0;
}

static int maglens_take_controls(struct maglens_camera *cam, const struct maglens_create *c)
{
	struct maglens_control *list = NULL;
	int ret;

	if (c->n_controls) {
		list = memdup_user(u64_to_user_ptr(c->controls), c->n_controls * sizeof(*list));
		if (IS_ERR(list))
			return PTR_ERR(list);
	}
	ret = maglens_ctrls_init(cam, list, c->n_controls);
	kfree(list);
	return ret;
}

static int maglens_add_parent(struct maglens_camera *cam)
{
	int ret;

	cam->pdev = platform_device_alloc("maglens", PLATFORM_DEVID_AUTO);
	if (!cam->pdev)
		return -ENOMEM;
	cam->pdev->dev.groups = maglens_groups;
	platform_set_drvdata(cam->pdev, cam);
	ret = platform_device_add(cam->pdev);
	if (ret) {
		platform_device_put(cam->pdev);
		cam->pdev = NULL;
	}
	return ret;
}

static bool maglens_create_ok(const struct maglens_create *c)
{
	return !(c->flags & ~MAGLENS_FLAG_EXCLUSIVE) &&
	       !memchr_inv(c->reserved, 0, sizeof(c->reserved)) &&
	       maglens_text_ok(c->card, sizeof(c->card)) &&
	       maglens_padded(c->bus_info, sizeof(c->bus_info)) &&
	       maglens_id_ok(c->camera_id, sizeof(c->camera_id)) &&
	       c->n_slots >= MAGLENS_MIN_SLOTS && c->n_slots <= MAGLENS_MAX_SLOTS &&
	       c->slot_slack <= MAGLENS_MAX_SLACK &&
	       c->n_formats && c->n_formats <= MAGLENS_MAX_FORMATS &&
	       c->n_controls <= MAGLENS_MAX_CONTROLS &&
	       c->n_inputs && c->n_inputs <= MAGLENS_MAX_INPUTS &&
	       c->hold_ms <= MAGLENS_MAX_HOLD_MS &&
	       c->video_nr >= -1 && c->video_nr <= MAGLENS_MAX_VIDEO_NR;
}

static struct maglens_camera *maglens_camera_new(struct maglens_create *c)
{
	struct maglens_camera *cam;
	int ret;

	cam = kzalloc(sizeof(*cam), GFP_KERNEL);
	if (!cam)
		return ERR_PTR(-ENOMEM);
	mutex_init(&cam->lock);
	spin_lock_init(&cam->event_lock);
	INIT_LIST_HEAD(&cam->events);
	init_waitqueue_head(&cam->event_wait);
	maglens_pending_init(&cam->usage, MAGLENS_EVENT_USAGE, 0);
	maglens_pending_init(&cam->format_set, MAGLENS_EVENT_FORMAT, 0);
	maglens_pending_init(&cam->input_set, MAGLENS_EVENT_INPUT, 0);
	cam->flags = c->flags;
	cam->n_slots = c->n_slots;
	cam->hold_ns = (u64)c->hold_ms * NSEC_PER_MSEC;
	memcpy(cam->card, c->card, sizeof(cam->card));
	memcpy(cam->camera_id, c->camera_id, sizeof(cam->camera_id));

	ret = maglens_take_formats(cam, c);
	if (!ret)
		ret = maglens_take_inputs(cam, c);
	if (!ret)
		ret = maglens_frame_init(cam, c->slot_slack);
	if (!ret)
		ret = maglens_take_controls(cam, c);
	if (!ret)
		ret = maglens_add_parent(cam);
	if (ret)
		goto free;
	mutex_lock(&cam->lock);
	maglens_set_format(cam, 0, cam->formats[0].intervals[0]);
	mutex_unlock(&cam->lock);
	if (c->bus_info[0])
		memcpy(cam->bus_info, c->bus_info, sizeof(cam->bus_info));
	else
		snprintf(cam->bus_info, sizeof(cam->bus_info), "platform:%s",
			 dev_name(&cam->pdev->dev));

	/* Preset, because the core would compose it from dev->driver, which is NULL. */
	strscpy(cam->v4l2_dev.name, dev_name(&cam->pdev->dev), sizeof(cam->v4l2_dev.name));
	cam->v4l2_dev.ctrl_handler = &cam->hdl;
	ret = v4l2_device_register(&cam->pdev->dev, &cam->v4l2_dev);
	if (ret)
		goto free;
	cam->v4l2_dev.release = maglens_v4l2_release;
	ret = maglens_video_register(cam, c->video_nr);
	if (ret) {
		v4l2_device_put(&cam->v4l2_dev);
		return ERR_PTR(ret);
	}
	return cam;

free:
	maglens_camera_free(cam);
	return ERR_PTR(ret);
}

static int maglens_create(struct maglens_backend *backend, struct maglens_create *c)
{
	struct maglens_camera *cam;

	if (c->abi_version != MAGLENS_ABI_VERSION)
		return -EPROTONOSUPPORT;
	if (!maglens_create_ok(c))
		return -EINVAL;
	mutex_lock(&backend->lock);
	cam = backend->cam ? ERR_PTR(-EEXIST) : maglens_camera_new(c);
	if (!IS_ERR(cam)) {
		c->video_nr = cam->vdev.num;
		c->slot_size = cam->slot_size;
		c->ring_size = (u64)cam->slot_size * cam->n_slots;
		c->generation = cam->generation;
		smp_store_release(&backend->cam, cam);	/* pairs with maglens_camera_of() */
	}
	mutex_unlock(&backend->lock);
	return PTR_ERR_OR_ZERO(cam);
}

/* Every argument passes through here, so that no handler sees user memory twice. */
union maglens_arg {
	struct maglens_create create;
	struct maglens_submit submit;
	struct maglens_placeholder placeholder;
	struct maglens_state state;
	struct maglens_adopt adopt;
	struct maglens_push push;
	struct maglens_input_push input;
	struct maglens_format_push format;
};

static int maglens_dispatch(struct file *file, unsigned int cmd, union maglens_arg *arg)
{
	struct maglens_camera *cam = maglens_camera_of(file);

	if (cmd == MAGLENS_IOC_CREATE)
		return maglens_create(file->private_data, &arg->create);
	if (!cam)
		return -ENODEV;
	switch (cmd) {
	case MAGLENS_IOC_SUBMIT:
		return maglens_submit(cam, &arg->submit);
	case MAGLENS_IOC_PLACEHOLDER:
		return maglens_set_placeholder(cam, &arg->placeholder);
	case MAGLENS_IOC_STATE:
		return maglens_get_state(cam, &arg->state);
	case MAGLENS_IOC_ADOPT:
		return maglens_adopt(cam, &arg->adopt);
	case MAGLENS_IOC_PUSH:
		return maglens_push(cam, &arg->push);
	case MAGLENS_IOC_INPUT:
		return maglens_push_input(cam, &arg->input);
	case MAGLENS_IOC_FORMAT:
		return maglens_push_format(cam, &arg->format);
	}
	return -ENOTTY;
}

static bool maglens_known(unsigned int cmd)
{
	switch (cmd) {
	case MAGLENS_IOC_CREATE:
	case MAGLENS_IOC_SUBMIT:
	case MAGLENS_IOC_PLACEHOLDER:
	case MAGLENS_IOC_STATE:
	case MAGLENS_IOC_ADOPT:
	case MAGLENS_IOC_PUSH:
	case MAGLENS_IOC_INPUT:
	case MAGLENS_IOC_FORMAT:
		return true;
	}
	return false;
}

static long maglens_ioctl(struct file *file, unsigned int cmd, unsigned long user)
{
	union maglens_arg arg;
	int ret;

	/* Also what bounds _IOC_SIZE(cmd) to that of the struct. */
	if (!maglens_known(cmd))
		return -ENOTTY;
	if (copy_from_user(&arg, (void __user *)user, _IOC_SIZE(cmd)))
		return -EFAULT;
	ret = maglens_dispatch(file, cmd, &arg);
	if (!ret && _IOC_DIR(cmd) & _IOC_READ &&
	    copy_to_user((void __user *)user, &arg, _IOC_SIZE(cmd)))
		return -EFAULT;
	return ret;
}

static ssize_t maglens_file_read(struct file *file, char __user *to, size_t room, loff_t *pos)
{
	struct maglens_camera *cam = maglens_camera_of(file);

	return cam ? maglens_read(cam, to, room, file->f_flags & O_NONBLOCK) : -ENODEV;
}

static __poll_t maglens_file_poll(struct file *file, poll_table *wait)
{
	struct maglens_camera *cam = maglens_camera_of(file);

	if (!cam)
		return EPOLLERR;
	poll_wait(file, &cam->event_wait, wait);
	return maglens_has_event(cam) ? EPOLLIN | EPOLLRDNORM : 0;
}

static int maglens_file_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct maglens_camera *cam = maglens_camera_of(file);

	if (!cam)
		return -ENODEV;
	if (!(vma->vm_flags & VM_SHARED))
		return -EINVAL;
	/* The mapping holds the file, and the file the camera, so the ring outlives it. */
	return remap_vmalloc_range(vma, cam->ring, vma->vm_pgoff);
}

static int maglens_file_open(struct inode *inode, struct file *file)
{
	struct maglens_backend *backend = kzalloc(sizeof(*backend), GFP_KERNEL);

	if (!backend)
		return -ENOMEM;
	mutex_init(&backend->lock);
	file->private_data = backend;
	return stream_open(inode, file);
}

static int maglens_file_release(struct inode *inode, struct file *file)
{
	struct maglens_backend *backend = file->private_data;
	struct maglens_camera *cam = backend->cam;

	if (cam) {
		maglens_frame_stop(cam);
		maglens_video_unregister(cam);
		v4l2_device_put(&cam->v4l2_dev);
	}
	kfree(backend);
	return 0;
}

static const struct file_operations maglens_fops = {
	.owner = THIS_MODULE,
	.open = maglens_file_open,
	.release = maglens_file_release,
	.read = maglens_file_read,
	.poll = maglens_file_poll,
	.mmap = maglens_file_mmap,
	.unlocked_ioctl = maglens_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};

static struct miscdevice maglens_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "maglens",
	.fops = &maglens_fops,
	.mode = 0660,
};

static int __init maglens_init(void)
{
	int ret;

	/* Of its own and high priority: a filler that is late is a gap in someone's picture. */
	maglens_wq = alloc_workqueue("maglens", WQ_HIGHPRI | WQ_UNBOUND, 0);
	if (!maglens_wq)
		return -ENOMEM;
	ret = misc_register(&maglens_misc);
	if (ret)
		destroy_workqueue(maglens_wq);
	return ret;
}

static void __exit maglens_exit(void)
{
	misc_deregister(&maglens_misc);
	destroy_workqueue(maglens_wq);
}

module_init(maglens_init);
module_exit(maglens_exit);

MODULE_DESCRIPTION("V4L2 camera whose driver is a userspace process");
MODULE_AUTHOR("The maglens authors");
MODULE_LICENSE("GPL");
MODULE_VERSION("1");
