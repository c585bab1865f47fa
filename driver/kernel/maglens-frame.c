// SPDX-License-Identifier: GPL-2.0-only
/*
 * maglens: frames. The ring, their way to every reader, and the filler that stands in for a
 * backend that is late.
 */
#include <linux/ktime.h>
#include <linux/math64.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#include "maglens-camera.h"

/* Timestamps reach applications in microseconds, and there too must rise. */
#define MAGLENS_TIMESTAMP_STEP NSEC_PER_USEC

#define MAGLENS_BLACK_LUMA	0x10
#define MAGLENS_NO_CHROMA	0x80

/*
 * Two intervals without a frame are what an application may see at most. By then the filler's
 * frame must be there, so a frame counts as missed a quarter of an interval earlier.
 */
static u64 maglens_patience(const struct maglens_camera *cam)
{
	return 2 * cam->interval_ns - cam->interval_ns / 4;
}

/* Black, as far as the layout is known; zeros otherwise. */
static void maglens_paint_black(const struct maglens_format *f, u8 *to)
{
	const u16 luma_first = (__force u16)cpu_to_le16(MAGLENS_NO_CHROMA << 8 |
							MAGLENS_BLACK_LUMA);
	size_t luma = min_t(size_t, (size_t)f->bytesperline * f->height, f->sizeimage);

	switch (f->fourcc) {
	case V4L2_PIX_FMT_YUYV:
	case V4L2_PIX_FMT_YVYU:
		memset16((u16 *)to, luma_first, f->sizeimage / 2);
		break;
	case V4L2_PIX_FMT_UYVY:
	case V4L2_PIX_FMT_VYUY:
		memset16((u16 *)to, swab16(luma_first), f->sizeimage / 2);
		break;
	case V4L2_PIX_FMT_NV12:
	case V4L2_PIX_FMT_NV21:
	case V4L2_PIX_FMT_NV16:
	case V4L2_PIX_FMT_NV61:
	case V4L2_PIX_FMT_YUV420:
	case V4L2_PIX_FMT_YVU420:
		memset(to, MAGLENS_BLACK_LUMA, luma);
		memset(to + luma, MAGLENS_NO_CHROMA, f->sizeimage - luma);
		break;
	default:
		memset(to, 0, f->sizeimage);
	}
}

/* One picture into one reader's next buffer; @data is NULL for black. False: no buffer queued. */
static bool maglens_give(struct maglens_reader *reader, const u8 *data, u32 bytes, u64 timestamp)
{
	const struct maglens_camera *cam = reader->cam;
	enum vb2_buffer_state state = VB2_BUF_STATE_DONE;
	u32 sequence = reader->sequence++;
	struct maglens_buffer *buf;
	struct vb2_buffer *vb;
	void *to;

	spin_lock(&reader->queue_lock);
	buf = list_first_entry_or_null(&reader->queued, struct maglens_buffer, node);
	if (buf)
		list_del(&buf->node);
	spin_unlock(&reader->queue_lock);
	if (!buf)
		return false;

	vb = &buf->vb.vb2_buf;
	to = vb2_plane_vaddr(vb, 0);
	if (to && data)
		memcpy(to, data, bytes);
	else if (to)
		maglens_paint_black(&cam->formats[cam->format], to);
	else
		state = VB2_BUF_STATE_ERROR;	/* an imported buffer that cannot be mapped */
	vb2_set_plane_payload(vb, 0, bytes);
	vb->timestamp = timestamp;
	buf->vb.sequence = sequence;
	buf->vb.field = V4L2_FIELD_NONE;
	vb2_buffer_done(vb, state);
	return true;
}

/* To every reader. Returns how many it reached. */
static u32 maglens_show(struct maglens_camera *cam, const u8 *data, u32 bytes, u64 timestamp)
{
	u64 least = cam->last_timestamp + MAGLENS_TIMESTAMP_STEP;
	struct maglens_reader *reader;
	u32 delivered = 0;

	lockdep_assert_held(&cam->frame_lock);
	if (timestamp < least) {
		/* Overtaken by the filler: a visible step, but not into the future. */
		timestamp = min(cam->last_timestamp + cam->interval_ns / 4, ktime_get_ns());
		timestamp = max(timestamp, least);
	}
	cam->last_timestamp = timestamp;
	list_for_each_entry(reader, &cam->readers, node)
		delivered += maglens_give(reader, data, bytes, timestamp);
	cam->counters.delivered += delivered;
	cam->counters.dropped += cam->n_streamers - delivered;
	return delivered;
}

/* The filler's choice: the last frame for a while, then the placeholder, then what there is. */
static void maglens_fill(struct maglens_camera *cam, u64 now)
{
	const struct maglens_format *f = &cam->formats[cam->format];
	const struct maglens_image *image = &cam->last;
	u64 kept = now - cam->lag_ns;
	u64 worn = kept + min(cam->lag_ns, cam->interval_ns / 4);
	u64 timestamp = clamp(cam->last_timestamp + maglens_patience(cam), kept, worn);

	if (!image->data || (cam->placeholder.data && now - cam->arrived >= cam->hold_ns))
		image = &cam->placeholder;
	if (!image->data && maglens_is_compressed(f))
		return;		/* nothing valid can be made up */
	/*
	 * Frames' timestamps lie some way back; a filler's keep that distance and wear it off, as
	 * far as that makes no gap that there was not.
	 */
	cam->lag_ns = now - timestamp;
	maglens_show(cam, image->data, image->data ? image->bytes : f->sizeimage, timestamp);
	cam->counters.filled++;
	cam->filled++;
}

static void maglens_filler(struct work_struct *work)
{
	struct maglens_camera *cam = container_of(work, struct maglens_camera, filler);
	u64 now;

	mutex_lock(&cam->frame_lock);
	if (cam->n_streamers && !cam->dead) {
		now = ktime_get_ns();
		if (now >= cam->due) {
			maglens_fill(cam, now);
			/* Nominal rate from here on; what a stall has cost stays lost. */
			cam->due += cam->interval_ns;
			if (cam->due <= now)
				cam->due = now + cam->interval_ns;
		}
		hrtimer_start(&cam->timer, ns_to_ktime(cam->due), HRTIMER_MODE_ABS);
	}
	mutex_unlock(&cam->frame_lock);
}

static enum hrtimer_restart maglens_expired(struct hrtimer *timer)
{
	struct maglens_camera *cam = container_of(timer, struct maglens_camera, timer);

	queue_work(maglens_wq, &cam->filler);
	return HRTIMER_NORESTART;
}

static void maglens_forget_last(struct maglens_camera *cam)
{
	cam->last.data = NULL;
	cam->held_slot = MAGLENS_NO_SLOT;
}

int maglens_reader_start(struct maglens_reader *reader)
{
	struct maglens_camera *cam = reader->cam;
	int ret = 0;

	mutex_lock(&cam->frame_lock);
	if (cam->dead) {
		ret = -ENODEV;
	} else {
		reader->sequence = 0;
		list_add_tail(&reader->node, &cam->readers);
		/* maglens_take() reads it without the lock. */
		WRITE_ONCE(cam->n_streamers, cam->n_streamers + 1);
		if (cam->n_streamers == 1) {
			cam->arrived = ktime_get_ns();
			cam->lag_ns = 0;
			cam->filled = 0;
			cam->due = cam->arrived + maglens_patience(cam);
			hrtimer_start(&cam->timer, ns_to_ktime(cam->due), HRTIMER_MODE_ABS);
		}
	}
	mutex_unlock(&cam->frame_lock);
	return ret;
}

void maglens_reader_stop(struct maglens_reader *reader)
{
	struct maglens_camera *cam = reader->cam;

	mutex_lock(&cam->frame_lock);
	list_del(&reader->node);
	/* What was seen before nobody watched is not for whoever watches next. */
	WRITE_ONCE(cam->n_streamers, cam->n_streamers - 1);
	if (!cam->n_streamers)
		maglens_forget_last(cam);
	mutex_unlock(&cam->frame_lock);
}

static int maglens_admit_generation(struct maglens_camera *cam, u64 generation)
{
	lockdep_assert_held(&cam->frame_lock);
	if (generation == cam->generation)
		return 0;
	cam->counters.stale++;
	return -ESTALE;
}

/* Is a picture of these properties welcome now? Counts those that are not. */
static int maglens_admit(struct maglens_camera *cam, u64 generation, u32 serial, u32 bytes)
{
	const struct maglens_format *f = &cam->formats[cam->format];
	int ret = maglens_admit_generation(cam, generation);

	if (ret)
		return ret;
	if (serial != cam->format_serial) {
		cam->counters.mismatched++;
		return -EREMCHG;
	}
	if (!bytes || bytes > f->sizeimage || (bytes < f->sizeimage && !maglens_is_compressed(f))) {
		cam->counters.mismatched++;
		return -EMSGSIZE;
	}
	return 0;
}

/*
 * frame_lock is held, and the frame is admitted. @data: NULL if nobody streamed when it could have
 * been copied. @slot: MAGLENS_NO_SLOT if it is not in the ring.
 */
static void maglens_accept(struct maglens_camera *cam, struct maglens_submit *submit,
			   u8 *data, u32 slot)
{
	u64 now = ktime_get_ns();
	u64 timestamp = submit->timestamp_ns;

	if (!timestamp || timestamp > now)
		timestamp = now;
	cam->counters.submitted++;
	if (!cam->n_streamers || !data) {
		cam->counters.unwatched++;
		return;
	}
	cam->last.data = data;
	cam->last.bytes = submit->bytesused;
	cam->held_slot = slot;
	cam->arrived = now;
	cam->lag_ns = min_t(u64, now - timestamp, NSEC_PER_SEC);
	cam->due = now + maglens_patience(cam);
	submit->filled = cam->filled;
	cam->filled = 0;
	submit->delivered = maglens_show(cam, data, submit->bytesused, timestamp);
	submit->dropped = cam->n_streamers - submit->delivered;
}

static int maglens_submit_slot(struct maglens_camera *cam, struct maglens_submit *submit)
{
	int ret;

	if (submit->address || submit->slot >= cam->n_slots)
		return -EINVAL;
	mutex_lock(&cam->frame_lock);
	ret = maglens_admit(cam, submit->generation, submit->format_serial, submit->bytesused);
	if (!ret)
		maglens_accept(cam, submit, cam->ring + (size_t)submit->slot * cam->slot_size,
			       submit->slot);
	mutex_unlock(&cam->frame_lock);
	return ret;
}

static int maglens_submit_address(struct maglens_camera *cam, struct maglens_submit *submit)
{
	u8 *data = NULL;
	bool watched;
	int i, ret;

	if (submit->slot)
		return -EINVAL;
	/* Whoever holds it may wait for the backend's memory, and that for ever. */
	if (mutex_lock_killable(&cam->stage_lock))
		return -EINTR;

	/* Spare the copy of what would be refused or seen by nobody. */
	mutex_lock(&cam->frame_lock);
	ret = maglens_admit(cam, submit->generation, submit->format_serial, submit->bytesused);
	i = cam->last.data && cam->last.data == cam->stage[0];
	watched = cam->n_streamers;
	mutex_unlock(&cam->frame_lock);
	if (ret)
		goto unlock;

	if (watched) {
		if (!cam->stage[i])
			cam->stage[i] = vmalloc(cam->max_sizeimage);
		ret = -ENOMEM;
		if (!cam->stage[i])
			goto unlock;
		ret = -EFAULT;
		if (copy_from_user(cam->stage[i], u64_to_user_ptr(submit->address),
				   submit->bytesused))
			goto unlock;
		data = cam->stage[i];
	}

	mutex_lock(&cam->frame_lock);
	ret = maglens_admit(cam, submit->generation, submit->format_serial, submit->bytesused);
	if (!ret)
		maglens_accept(cam, submit, data, MAGLENS_NO_SLOT);
	mutex_unlock(&cam->frame_lock);
unlock:
	mutex_unlock(&cam->stage_lock);
	return ret;
}

int maglens_submit(struct maglens_camera *cam, struct maglens_submit *submit)
{
	if (submit->flags & ~MAGLENS_SUBMIT_ADDRESS ||
	    memchr_inv(submit->reserved, 0, sizeof(submit->reserved)))
		return -EINVAL;
	submit->delivered = 0;
	submit->dropped = 0;
	submit->filled = 0;
	if (submit->flags & MAGLENS_SUBMIT_ADDRESS)
		return maglens_submit_address(cam, submit);
	return maglens_submit_slot(cam, submit);
}

int maglens_set_placeholder(struct maglens_camera *cam, const struct maglens_placeholder *p)
{
	struct maglens_image image = { .bytes = p->bytesused };
	int ret = 0;

	if (memchr_inv(p->reserved, 0, sizeof(p->reserved)))
		return -EINVAL;
	if (p->bytesused) {
		/* Spare the copy of what would be refused; this also bounds it. */
		mutex_lock(&cam->frame_lock);
		ret = maglens_admit(cam, p->generation, p->format_serial, p->bytesused);
		mutex_unlock(&cam->frame_lock);
		if (ret)
			return ret;
		image.data = vmalloc(p->bytesused);
		if (!image.data)
			return -ENOMEM;
		if (copy_from_user(image.data, u64_to_user_ptr(p->address), p->bytesused)) {
			vfree(image.data);
			return -EFAULT;
		}
	}

	mutex_lock(&cam->frame_lock);
	if (image.data)
		ret = maglens_admit(cam, p->generation, p->format_serial, p->bytesused);
	else
		ret = maglens_admit_generation(cam, p->generation);
	if (!ret)
		swap(cam->placeholder, image);
	mutex_unlock(&cam->frame_lock);
	vfree(image.data);	/* the old one, or the one refused */
	return ret;
}

/* The caller holds cam->lock; with another @index than the current, no reader has buffers. */
void maglens_set_format(struct maglens_camera *cam, u32 index, struct maglens_fract interval)
{
	struct maglens_image old = { };

	lockdep_assert_held(&cam->lock);
	mutex_lock(&cam->frame_lock);
	if (index != cam->format) {
		cam->format = index;
		cam->format_serial++;
		maglens_forget_last(cam);
		swap(cam->placeholder, old);
	}
	cam->interval = interval;
	cam->interval_ns = div_u64((u64)interval.numerator * NSEC_PER_SEC, interval.denominator);
	/* A filler that sleeps by a longer interval must wake by this one. */
	if (cam->n_streamers && !cam->dead) {
		cam->due = min(cam->due, ktime_get_ns() + maglens_patience(cam));
		hrtimer_start(&cam->timer, ns_to_ktime(cam->due), HRTIMER_MODE_ABS);
	}
	mutex_unlock(&cam->frame_lock);
	vfree(old.data);
}

/*
 * @slack: bytes wanted behind the largest picture of a slot. Needs maglens_frame_free() even if it
 * fails.
 */
int maglens_frame_init(struct maglens_camera *cam, u32 slack)
{
	size_t room = PAGE_ALIGN(cam->max_sizeimage) +
		      max_t(size_t, PAGE_ALIGN(slack), PAGE_SIZE);

	mutex_init(&cam->stage_lock);
	mutex_init(&cam->frame_lock);
	INIT_LIST_HEAD(&cam->readers);
	maglens_timer_setup(&cam->timer, maglens_expired);
	INIT_WORK(&cam->filler, maglens_filler);
	cam->held_slot = MAGLENS_NO_SLOT;
	cam->generation = 1;
	cam->format_serial = 1;

	if ((u64)room * cam->n_slots > MAGLENS_MAX_RING)
		return -EINVAL;
	cam->slot_size = room;
	cam->ring = vmalloc_user(room * cam->n_slots);
	return cam->ring ? 0 : -ENOMEM;
}

/* No frame reaches anyone once this has returned. */
void maglens_frame_stop(struct maglens_camera *cam)
{
	mutex_lock(&cam->frame_lock);
	cam->dead = true;
	mutex_unlock(&cam->frame_lock);
	hrtimer_cancel(&cam->timer);
	cancel_work_sync(&cam->filler);
}

void maglens_frame_free(struct maglens_camera *cam)
{
	vfree(cam->placeholder.data);
	vfree(cam->stage[1]);
	vfree(cam->stage[0]);
	vfree(cam->ring);
}
