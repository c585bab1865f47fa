// SPDX-License-Identifier: GPL-2.0-only
/*
 * maglens: a reader's own videobuf2 queue. Having buffers is what locks the camera's format, so
 * gaining and losing them is counted here.
 */
#include <media/videobuf2-vmalloc.h>

#include "maglens-camera.h"

/* Two: one is shown while the next is filled. */
#define MAGLENS_MIN_BUFFERS 2

static int maglens_queue_setup(struct vb2_queue *q, unsigned int *n_buffers,
			       unsigned int *n_planes, unsigned int sizes[],
			       struct device *alloc_devs[])
{
	struct maglens_reader *reader = vb2_get_drv_priv(q);
	struct maglens_camera *cam = reader->cam;

	/* The reader counts as a holder already, so the format stays what it is. */
	lockdep_assert_held(&reader->lock);
	reader->sizeimage = cam->formats[cam->format].sizeimage;
	/* No more than apps have a use for. */
	if (*n_planes)
		return *n_planes == 1 && sizes[0] >= reader->sizeimage &&
		       sizes[0] <= 2 * cam->max_sizeimage ? 0 : -EINVAL;
	*n_buffers = max_t(unsigned int, *n_buffers, MAGLENS_MIN_BUFFERS);
	*n_planes = 1;
	sizes[0] = reader->sizeimage;
	return 0;
}

static int maglens_buf_prepare(struct vb2_buffer *vb)
{
	struct maglens_reader *reader = vb2_get_drv_priv(vb->vb2_queue);

	return vb2_plane_size(vb, 0) < reader->sizeimage ? -EINVAL : 0;
}

static void maglens_buf_queue(struct vb2_buffer *vb)
{
	struct maglens_reader *reader = vb2_get_drv_priv(vb->vb2_queue);
	struct maglens_buffer *buf = container_of(to_vb2_v4l2_buffer(vb),
						  struct maglens_buffer, vb);

	spin_lock(&reader->queue_lock);
	list_add_tail(&buf->node, &reader->queued);
	spin_unlock(&reader->queue_lock);
}

static void maglens_return_buffers(struct maglens_reader *reader, enum vb2_buffer_state state)
{
	struct maglens_buffer *buf, *next;
	LIST_HEAD(queued);

	spin_lock(&reader->queue_lock);
	list_splice_init(&reader->queued, &queued);
	spin_unlock(&reader->queue_lock);
	list_for_each_entry_safe(buf, next, &queued, node)
		vb2_buffer_done(&buf->vb.vb2_buf, state);
}

static int maglens_start_streaming(struct vb2_queue *q, unsigned int n_queued)
{
	struct maglens_reader *reader = vb2_get_drv_priv(q);
	int ret = maglens_reader_start(reader);

	if (ret)
		maglens_return_buffers(reader, VB2_BUF_STATE_QUEUED);
	else
		maglens_post(reader->cam, &reader->cam->usage, 0);
	return ret;
}

static void maglens_stop_streaming(struct vb2_queue *q)
{
	struct maglens_reader *reader = vb2_get_drv_priv(q);

	maglens_reader_stop(reader);
	maglens_return_buffers(reader, VB2_BUF_STATE_ERROR);
	maglens_post(reader->cam, &reader->cam->usage, 0);
}

static const struct vb2_ops maglens_queue_ops = {
	.queue_setup = maglens_queue_setup,
	.buf_prepare = maglens_buf_prepare,
	.buf_queue = maglens_buf_queue,
	.start_streaming = maglens_start_streaming,
	.stop_streaming = maglens_stop_streaming,
	MAGLENS_VB2_WAIT_OPS
};

static void maglens_set_holds(struct maglens_reader *reader, bool holds)
{
	struct maglens_camera *cam = reader->cam;

	lockdep_assert_held(&cam->lock);
	cam->holders += holds - reader->holds;
	reader->holds = holds;
}

/*
 * Opens a section in which this reader may come to have @wanted buffers, or to have none. It counts
 * as having them from the outset, so that the format stays while they are made, and the camera's
 * lock need not be held meanwhile: zeroing hundreds of megabytes takes its time.
 */
static int maglens_hold_begin(struct maglens_reader *reader, u32 wanted)
{
	struct maglens_camera *cam = reader->cam;
	int ret = 0;

	mutex_lock(&reader->lock);
	mutex_lock(&cam->lock);
	if (cam->flags & MAGLENS_FLAG_EXCLUSIVE && maglens_is_locked(reader))
		ret = -EBUSY;
	else if (wanted)
		maglens_set_holds(reader, true);
	mutex_unlock(&cam->lock);
	if (ret)
		mutex_unlock(&reader->lock);
	return ret;
}

static void maglens_hold_end(struct maglens_reader *reader)
{
	struct maglens_camera *cam = reader->cam;

	mutex_lock(&cam->lock);
	maglens_set_holds(reader, vb2_is_busy(&reader->q));
	mutex_unlock(&cam->lock);
	mutex_unlock(&reader->lock);
	/* Even if all is as before: who looked meanwhile may have seen it otherwise. */
	maglens_post(cam, &cam->usage, 0);
}

int maglens_reqbufs(struct file *file, void *priv, struct v4l2_requestbuffers *req)
{
	struct maglens_reader *reader = maglens_reader_of(file);
	int ret = maglens_hold_begin(reader, req->count);

	if (ret)
		return ret;
	ret = vb2_reqbufs(&reader->q, req);
	maglens_hold_end(reader);
	return ret;
}

int maglens_create_bufs(struct file *file, void *priv, struct v4l2_create_buffers *create)
{
	struct maglens_reader *reader = maglens_reader_of(file);
	int ret = maglens_hold_begin(reader, create->count);

	if (ret)
		return ret;
	ret = vb2_create_bufs(&reader->q, create);
	maglens_hold_end(reader);
	return ret;
}

int maglens_querybuf(struct file *file, void *priv, struct v4l2_buffer *b)
{
	struct maglens_reader *reader = maglens_reader_of(file);
	int ret;

	mutex_lock(&reader->lock);
	ret = vb2_querybuf(&reader->q, b);
	mutex_unlock(&reader->lock);
	return ret;
}

int maglens_prepare_buf(struct file *file, void *priv, struct v4l2_buffer *b)
{
	struct maglens_reader *reader = maglens_reader_of(file);
	int ret;

	mutex_lock(&reader->lock);
	ret = vb2_prepare_buf(&reader->q, NULL, b);
	mutex_unlock(&reader->lock);
	return ret;
}

int maglens_qbuf(struct file *file, void *priv, struct v4l2_buffer *b)
{
	struct maglens_reader *reader = maglens_reader_of(file);
	int ret;

	mutex_lock(&reader->lock);
	ret = vb2_qbuf(&reader->q, NULL, b);
	mutex_unlock(&reader->lock);
	return ret;
}

int maglens_dqbuf(struct file *file, void *priv, struct v4l2_buffer *b)
{
	struct maglens_reader *reader = maglens_reader_of(file);
	int ret;

	mutex_lock(&reader->lock);
	ret = vb2_dqbuf(&reader->q, b, file->f_flags & O_NONBLOCK);
	mutex_unlock(&reader->lock);
	return ret;
}

int maglens_expbuf(struct file *file, void *priv, struct v4l2_exportbuffer *e)
{
	struct maglens_reader *reader = maglens_reader_of(file);
	int ret;

	mutex_lock(&reader->lock);
	ret = vb2_expbuf(&reader->q, e);
	mutex_unlock(&reader->lock);
	return ret;
}

int maglens_streamon(struct file *file, void *priv, enum v4l2_buf_type type)
{
	struct maglens_reader *reader = maglens_reader_of(file);
	int ret;

	mutex_lock(&reader->lock);
	ret = vb2_streamon(&reader->q, type);
	mutex_unlock(&reader->lock);
	return ret;
}

int maglens_streamoff(struct file *file, void *priv, enum v4l2_buf_type type)
{
	struct maglens_reader *reader = maglens_reader_of(file);
	int ret;

	mutex_lock(&reader->lock);
	ret = vb2_streamoff(&reader->q, type);
	mutex_unlock(&reader->lock);
	return ret;
}

int maglens_queue_init(struct maglens_reader *reader)
{
	struct vb2_queue *q = &reader->q;

	q->type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
	/* No VB2_READ: a poll() before REQBUFS would start file I/O. */
	q->io_modes = VB2_MMAP | VB2_DMABUF;
	q->drv_priv = reader;
	q->buf_struct_size = sizeof(struct maglens_buffer);
	q->ops = &maglens_queue_ops;
	q->mem_ops = &vb2_vmalloc_memops;
	q->timestamp_flags = V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC | V4L2_BUF_FLAG_TSTAMP_SRC_SOE;
	q->lock = &reader->lock;
	q->dev = &reader->cam->pdev->dev;
	return vb2_queue_init(q);
}
