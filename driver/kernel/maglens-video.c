// SPDX-License-Identifier: GPL-2.0-only
/*
 * maglens: the side that applications see: files, format, inputs. Format, interval and
 * input belong to the camera, and are locked while anyone else has buffers.
 */
#include <linux/math64.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <media/v4l2-event.h>
#include <media/v4l2-ioctl.h>

#include "maglens-camera.h"

static int maglens_querycap(struct file *file, void *priv, struct v4l2_capability *cap)
{
	const struct maglens_camera *cam = maglens_reader_of(file)->cam;

	strscpy(cap->driver, "maglens", sizeof(cap->driver));
	strscpy(cap->card, cam->card, sizeof(cap->card));
	strscpy(cap->bus_info, cam->bus_info, sizeof(cap->bus_info));
	return 0;
}

static void maglens_describe(const struct maglens_format *f, struct v4l2_pix_format *pix)
{
	memset(pix, 0, sizeof(*pix));
	pix->width = f->width;
	pix->height = f->height;
	pix->pixelformat = f->fourcc;
	pix->field = V4L2_FIELD_NONE;
	pix->bytesperline = f->bytesperline;
	pix->sizeimage = f->sizeimage;
	pix->colorspace = f->colorspace;
	pix->ycbcr_enc = f->ycbcr_enc;
	pix->quantization = f->quantization;
	pix->xfer_func = f->xfer_func;
	pix->priv = V4L2_PIX_FMT_PRIV_MAGIC;
}

static int maglens_enum_fmt(struct file *file, void *priv, struct v4l2_fmtdesc *desc)
{
	const struct maglens_camera *cam = maglens_reader_of(file)->cam;
	const struct maglens_format *f;
	u32 i, j, n = 0;

	for (i = 0; i < cam->n_formats; i++) {
		f = &cam->formats[i];
		for (j = 0; cam->formats[j].fourcc != f->fourcc; j++)
			;
		if (j != i || n++ != desc->index)
			continue;
		desc->pixelformat = f->fourcc;
		/* The core has a better name for those it knows, and warns where there is none. */
		snprintf(desc->description, sizeof(desc->description), "%p4cc", &f->fourcc);
		if (maglens_is_compressed(f))
			desc->flags = V4L2_FMT_FLAG_COMPRESSED;
		return 0;
	}
	return -EINVAL;
}

/* The entry of the wanted fourcc, or else of the first, that is nearest in size. */
static u32 maglens_nearest(const struct maglens_camera *cam, const struct v4l2_pix_format *want)
{
	u32 fourcc = cam->formats[0].fourcc;
	u32 i, distance, nearest = 0, least = U32_MAX;
	s32 width = min_t(u32, want->width, MAGLENS_MAX_DIMENSION);
	s32 height = min_t(u32, want->height, MAGLENS_MAX_DIMENSION);

	for (i = 0; i < cam->n_formats; i++)
		if (cam->formats[i].fourcc == want->pixelformat)
			fourcc = want->pixelformat;
	for (i = 0; i < cam->n_formats; i++) {
		if (cam->formats[i].fourcc != fourcc)
			continue;
		distance = abs((s32)cam->formats[i].width - width) +
			   abs((s32)cam->formats[i].height - height);
		if (distance < least) {
			least = distance;
			nearest = i;
		}
	}
	return nearest;
}

static int maglens_g_fmt(struct file *file, void *priv, struct v4l2_format *f)
{
	struct maglens_camera *cam = maglens_reader_of(file)->cam;

	mutex_lock(&cam->lock);
	maglens_describe(&cam->formats[cam->format], &f->fmt.pix);
	mutex_unlock(&cam->lock);
	return 0;
}

static int maglens_try_fmt(struct file *file, void *priv, struct v4l2_format *f)
{
	struct maglens_reader *reader = maglens_reader_of(file);
	struct maglens_camera *cam = reader->cam;
	u32 index;

	mutex_lock(&cam->lock);
	if (maglens_is_locked(reader))
		index = cam->format;
	else
		index = maglens_nearest(cam, &f->fmt.pix);
	maglens_describe(&cam->formats[index], &f->fmt.pix);
	mutex_unlock(&cam->lock);
	return 0;
}

static int maglens_s_fmt(struct file *file, void *priv, struct v4l2_format *f)
{
	struct maglens_reader *reader = maglens_reader_of(file);
	struct maglens_camera *cam = reader->cam;
	bool changed = false;
	int ret = 0;
	u32 index;

	mutex_lock(&cam->lock);
	if (reader->holds || (maglens_is_locked(reader) && cam->flags & MAGLENS_FLAG_EXCLUSIVE)) {
		ret = -EBUSY;
	} else if (!maglens_is_locked(reader)) {
		index = maglens_nearest(cam, &f->fmt.pix);
		changed = index != cam->format;
		if (changed)
			maglens_set_format(cam, index, cam->formats[index].intervals[0]);
	}
	/* Locked in shared mode: the running format is what this reader gets. */
	if (!ret)
		maglens_describe(&cam->formats[cam->format], &f->fmt.pix);
	mutex_unlock(&cam->lock);
	if (changed)
		maglens_post(cam, &cam->format_set, 0);
	return ret;
}

static int maglens_enum_framesizes(struct file *file, void *priv, struct v4l2_frmsizeenum *e)
{
	const struct maglens_camera *cam = maglens_reader_of(file)->cam;
	u32 i, n = 0;

	for (i = 0; i < cam->n_formats; i++) {
		if (cam->formats[i].fourcc != e->pixel_format || n++ != e->index)
			continue;
		e->type = V4L2_FRMSIZE_TYPE_DISCRETE;
		e->discrete.width = cam->formats[i].width;
		e->discrete.height = cam->formats[i].height;
		return 0;
	}
	return -EINVAL;
}

static int maglens_enum_frameintervals(struct file *file, void *priv, struct v4l2_frmivalenum *e)
{
	const struct maglens_camera *cam = maglens_reader_of(file)->cam;
	const struct maglens_format *f;

	for (f = cam->formats; f < cam->formats + cam->n_formats; f++) {
		if (f->fourcc != e->pixel_format || f->width != e->width || f->height != e->height)
			continue;
		if (e->index >= f->n_intervals)
			return -EINVAL;
		e->type = V4L2_FRMIVAL_TYPE_DISCRETE;
		e->discrete.numerator = f->intervals[e->index].numerator;
		e->discrete.denominator = f->intervals[e->index].denominator;
		return 0;
	}
	return -EINVAL;
}

static void maglens_describe_parm(const struct maglens_camera *cam, struct v4l2_streamparm *parm)
{
	memset(&parm->parm, 0, sizeof(parm->parm));
	parm->parm.capture.capability = V4L2_CAP_TIMEPERFRAME;
	parm->parm.capture.timeperframe.numerator = cam->interval.numerator;
	parm->parm.capture.timeperframe.denominator = cam->interval.denominator;
}

static int maglens_g_parm(struct file *file, void *priv, struct v4l2_streamparm *parm)
{
	struct maglens_camera *cam = maglens_reader_of(file)->cam;

	if (parm->type != V4L2_BUF_TYPE_VIDEO_CAPTURE)
		return -EINVAL;
	mutex_lock(&cam->lock);
	maglens_describe_parm(cam, parm);
	mutex_unlock(&cam->lock);
	return 0;
}

static u64 maglens_interval_us(u32 numerator, u32 denominator)
{
	return div_u64((u64)numerator * USEC_PER_SEC, denominator);
}

/* A wish of 0 in either part asks for the format's default. */
static struct maglens_fract maglens_nearest_interval(const struct maglens_format *f,
						     const struct v4l2_fract *want)
{
	u64 wanted, offered, distance, least = U64_MAX;
	u32 i, nearest = 0;

	if (!want->numerator || !want->denominator)
		return f->intervals[0];
	wanted = maglens_interval_us(want->numerator, want->denominator);
	for (i = 0; i < f->n_intervals; i++) {
		offered = maglens_interval_us(f->intervals[i].numerator,
					      f->intervals[i].denominator);
		distance = offered > wanted ? offered - wanted : wanted - offered;
		if (distance < least) {
			least = distance;
			nearest = i;
		}
	}
	return f->intervals[nearest];
}

static int maglens_s_parm(struct file *file, void *priv, struct v4l2_streamparm *parm)
{
	struct maglens_reader *reader = maglens_reader_of(file);
	struct maglens_camera *cam = reader->cam;
	struct maglens_fract interval;
	bool changed = false;

	if (parm->type != V4L2_BUF_TYPE_VIDEO_CAPTURE)
		return -EINVAL;
	mutex_lock(&cam->lock);
	if (!maglens_is_locked(reader)) {
		interval = maglens_nearest_interval(&cam->formats[cam->format],
						    &parm->parm.capture.timeperframe);
		changed = interval.numerator != cam->interval.numerator ||
			  interval.denominator != cam->interval.denominator;
		if (changed)
			maglens_set_format(cam, cam->format, interval);
	}
	maglens_describe_parm(cam, parm);
	mutex_unlock(&cam->lock);
	if (changed)
		maglens_post(cam, &cam->format_set, 0);
	return 0;
}

/* ---- inputs ---- */

static int maglens_enum_input(struct file *file, void *priv, struct v4l2_input *in)
{
	struct maglens_camera *cam = maglens_reader_of(file)->cam;

	if (in->index >= cam->n_inputs)
		return -EINVAL;
	in->type = V4L2_INPUT_TYPE_CAMERA;
	mutex_lock(&cam->lock);
	in->status = cam->inputs[in->index].status;
	strscpy(in->name, cam->inputs[in->index].name, sizeof(in->name));
	mutex_unlock(&cam->lock);
	return 0;
}

static int maglens_g_input(struct file *file, void *priv, unsigned int *index)
{
	struct maglens_camera *cam = maglens_reader_of(file)->cam;

	mutex_lock(&cam->lock);
	*index = cam->input;
	mutex_unlock(&cam->lock);
	return 0;
}

static int maglens_s_input(struct file *file, void *priv, unsigned int index)
{
	struct maglens_reader *reader = maglens_reader_of(file);
	struct maglens_camera *cam = reader->cam;
	bool changed;
	int ret = 0;

	if (index >= cam->n_inputs)
		return -EINVAL;
	mutex_lock(&cam->lock);
	changed = index != cam->input;
	if (changed && maglens_is_locked(reader))
		ret = -EBUSY;
	else
		cam->input = index;
	mutex_unlock(&cam->lock);
	if (changed && !ret)
		maglens_post(cam, &cam->input_set, index);
	return ret;
}

/* ---- files ---- */

static int maglens_subscribe(struct v4l2_fh *fh, const struct v4l2_event_subscription *sub)
{
	if (sub->type == V4L2_EVENT_SOURCE_CHANGE)
		return v4l2_src_change_event_subscribe(fh, sub);
	return v4l2_ctrl_subscribe_event(fh, sub);
}

static const struct v4l2_ioctl_ops maglens_ioctl_ops = {
	.vidioc_querycap = maglens_querycap,
	.vidioc_enum_fmt_vid_cap = maglens_enum_fmt,
	.vidioc_g_fmt_vid_cap = maglens_g_fmt,
	.vidioc_try_fmt_vid_cap = maglens_try_fmt,
	.vidioc_s_fmt_vid_cap = maglens_s_fmt,
	.vidioc_enum_framesizes = maglens_enum_framesizes,
	.vidioc_enum_frameintervals = maglens_enum_frameintervals,
	.vidioc_g_parm = maglens_g_parm,
	.vidioc_s_parm = maglens_s_parm,
	.vidioc_enum_input = maglens_enum_input,
	.vidioc_g_input = maglens_g_input,
	.vidioc_s_input = maglens_s_input,
	.vidioc_reqbufs = maglens_reqbufs,
	.vidioc_create_bufs = maglens_create_bufs,
	.vidioc_querybuf = maglens_querybuf,
	.vidioc_prepare_buf = maglens_prepare_buf,
	.vidioc_qbuf = maglens_qbuf,
	.vidioc_dqbuf = maglens_dqbuf,
	.vidioc_expbuf = maglens_expbuf,
	.vidioc_streamon = maglens_streamon,
	.vidioc_streamoff = maglens_streamoff,
	.vidioc_log_status = v4l2_ctrl_log_status,
	.vidioc_subscribe_event = maglens_subscribe,
	.vidioc_unsubscribe_event = v4l2_event_unsubscribe,
};

static int maglens_open(struct file *file)
{
	struct maglens_camera *cam = video_drvdata(file);
	struct maglens_reader *reader;
	int ret;

	reader = kzalloc(sizeof(*reader), GFP_KERNEL);
	if (!reader)
		return -ENOMEM;
	reader->cam = cam;
	mutex_init(&reader->lock);
	spin_lock_init(&reader->queue_lock);
	INIT_LIST_HEAD(&reader->queued);
	ret = maglens_queue_init(reader);
	if (ret) {
		kfree(reader);
		return ret;
	}
	v4l2_fh_init(&reader->fh, &cam->vdev);
	maglens_fh_add(&reader->fh, file);
	mutex_lock(&cam->lock);
	cam->openers++;
	mutex_unlock(&cam->lock);
	maglens_post(cam, &cam->usage, 0);
	return 0;
}

static int maglens_release(struct file *file)
{
	struct maglens_reader *reader = maglens_reader_of(file);
	struct maglens_camera *cam = reader->cam;

	mutex_lock(&reader->lock);
	vb2_queue_release(&reader->q);
	mutex_unlock(&reader->lock);
	mutex_lock(&cam->lock);
	cam->openers--;
	cam->holders -= reader->holds;
	mutex_unlock(&cam->lock);
	maglens_post(cam, &cam->usage, 0);
	maglens_fh_del(&reader->fh, file);
	v4l2_fh_exit(&reader->fh);
	mutex_destroy(&reader->lock);
	kfree(reader);
	return 0;
}

static __poll_t maglens_poll(struct file *file, poll_table *wait)
{
	struct maglens_reader *reader = maglens_reader_of(file);
	__poll_t ret;

	mutex_lock(&reader->lock);
	ret = vb2_poll(&reader->q, file, wait);
	mutex_unlock(&reader->lock);
	return ret;
}

static int maglens_mmap(struct file *file, struct vm_area_struct *vma)
{
	return vb2_mmap(&maglens_reader_of(file)->q, vma);
}

static const struct v4l2_file_operations maglens_video_fops = {
	.owner = THIS_MODULE,
	.open = maglens_open,
	.release = maglens_release,
	.poll = maglens_poll,
	.mmap = maglens_mmap,
	.unlocked_ioctl = video_ioctl2,
};

int maglens_video_register(struct maglens_camera *cam, int wanted_nr)
{
	struct video_device *vdev = &cam->vdev;

	strscpy(vdev->name, cam->card, sizeof(vdev->name));
	vdev->fops = &maglens_video_fops;
	vdev->ioctl_ops = &maglens_ioctl_ops;
	vdev->release = video_device_release_empty;	/* it is part of the camera */
	vdev->v4l2_dev = &cam->v4l2_dev;
	vdev->vfl_dir = VFL_DIR_RX;
	vdev->device_caps = V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING;
	/* vdev->queue and vdev->lock stay NULL: the queue, and its lock, are each file's own. */
	video_set_drvdata(vdev, cam);
	return video_register_device(vdev, VFL_TYPE_VIDEO, wanted_nr);
}

/* Open files stay valid and get ENODEV; those blocked in DQBUF or poll() wake up. */
void maglens_video_unregister(struct maglens_camera *cam)
{
	struct v4l2_fh *fh;
	unsigned long flags;

	/* Unregistering may drop the last reference but ours. */
	video_unregister_device(&cam->vdev);
	spin_lock_irqsave(&cam->vdev.fh_lock, flags);
	list_for_each_entry(fh, &cam->vdev.fh_list, list)
		vb2_queue_error(&container_of(fh, struct maglens_reader, fh)->q);
	spin_unlock_irqrestore(&cam->vdev.fh_lock, flags);
}
