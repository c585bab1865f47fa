/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * maglens: what the files of the module share.
 *
 * Locks, outermost first:
 *   maglens_reader.lock   one reader's queue (also vb2's q->lock)
 *   maglens_camera.lock   choices and counts of files
 *   maglens_camera.hdl.lock  controls
 *   maglens_camera.stage_lock  copies from the backend's memory
 *   maglens_camera.frame_lock  streaming and delivery
 *   maglens_reader.queue_lock, maglens_camera.event_lock  spinlocks, never nested
 * No user memory is touched under frame_lock, hdl.lock or lock: a backend that stalls
 * a page fault must not stall applications.
 */
#ifndef MAGLENS_CAMERA_H
#define MAGLENS_CAMERA_H

#include <linux/hrtimer.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/platform_device.h>
#include <linux/poll.h>
#include <linux/string.h>
#include <linux/spinlock.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <media/v4l2-ctrls.h>
#include <media/v4l2-device.h>
#include <media/v4l2-fh.h>
#include <media/videobuf2-v4l2.h>

#include <uapi/linux/maglens.h>

#include "maglens-compat.h"

/**
 * struct maglens_pending - an event the backend has yet to read
 * @node:	in maglens_camera.events while pending, empty otherwise
 * @type:	enum maglens_event_type
 * @id:		control id, or 0
 * @count:	how often it happened since it was last read
 * @tgid:	the process that caused it last
 * @value:	control value
 * @comm:	name of the process that caused it last
 *
 * Embedded in what it reports on, so that posting never allocates and cannot overflow.
 */
struct maglens_pending {
	struct list_head node;
	u32 type;
	u32 id;
	u32 count;
	u32 tgid;
	s64 value;
	char comm[TASK_COMM_LEN];
};

/**
 * struct maglens_ctrl - a control and what the core keeps only pointers to
 * @ctrl:	the core's
 * @set:	the event of an application's setting it
 * @name:	of a private control
 * @items:	names of a menu given at creation, each ended by a zero
 * @qmenu:	pointers into @items
 * @qmenu_int:	values of an integer menu
 * @n_menu:	entries of whichever menu it has
 */
struct maglens_ctrl {
	struct v4l2_ctrl *ctrl;
	struct maglens_pending set;
	char name[32];
	struct maglens_menu_item *items;
	const char **qmenu;
	s64 *qmenu_int;
	u32 n_menu;
};

/**
 * struct maglens_image - a picture in kernel memory
 * @data:	NULL: there is none
 * @bytes:	its length
 */
struct maglens_image {
	u8 *data;
	u32 bytes;
};

/**
 * struct maglens_camera - one camera, from CREATE until its last file is closed
 * @v4l2_dev:	its release frees the camera
 * @vdev:	the device applications open
 * @pdev:	parent of @vdev, carries the sysfs attribute camera_id
 * @flags:	MAGLENS_FLAG_*
 * @card:	name
 * @bus_info:	V4L2 bus_info
 * @camera_id:	stable name for udev
 * @hold_ns:	how long the filler prefers the last frame to the placeholder
 *
 * @formats:	as created, never changed
 * @n_formats:	entries of @formats
 * @max_sizeimage: the largest of them
 * @inputs:	names and status, changed under @lock
 * @n_inputs:	entries of @inputs
 *
 * @lock:	guards the choices and counts below
 * @format:	chosen entry of @formats; written with @frame_lock held as well
 * @format_serial: rises with every change of @format; written likewise
 * @interval:	chosen frame interval
 * @input:	chosen input
 * @openers:	files open on @vdev
 * @holders:	those that have buffers, or are about to
 *
 * @hdl:	controls
 * @ctrls:	one for each control of the backend's
 * @n_ctrls:	entries of @ctrls
 * @from_backend: s_ctrl is called on the backend's behalf; under hdl.lock
 *
 * @ring:	frames, shared with the backend
 * @slot_size:	bytes from one to the next
 * @n_slots:	how many
 *
 * @stage_lock:	guards filling @stage
 * @stage:	where pictures from the backend's memory are copied to, in turns, so that the one
 *		the filler may need stays whole; allocated on first use
 *
 * @frame_lock:	guards all below up to @timer
 * @dead:	the backend has closed; nothing may start streaming
 * @generation:	what SUBMIT and PUSH must carry; raised with @lock and hdl.lock held as well, so
 *		any of the three keeps it
 * @readers:	those that stream
 * @n_streamers: length of @readers; maglens_take() reads it without the lock
 * @last:	the frame shown last; points into @ring or @stage
 * @held_slot:	which slot that is, or MAGLENS_NO_SLOT
 * @placeholder: the filler's picture, allocated
 * @last_timestamp: of the last frame handed out
 * @arrived:	when the backend's last frame came
 * @lag_ns:	how far a filler's timestamp lies back, as the last frame's did
 * @filled:	filler's frames since the backend's last frame
 * @due:	when the filler must act
 * @interval_ns: @interval
 * @counters:	see struct maglens_counters
 *
 * @timer:	expires at or before @due and queues @filler
 * @filler:	makes up a frame if none has come
 *
 * @event_lock:	guards @events and every struct maglens_pending
 * @events:	pending ones, oldest first
 * @event_wait:	the backend waits here
 * @usage:	openers, holders or streamers changed
 * @format_set:	an application chose format or interval
 * @input_set:	an application chose an input
 */
struct maglens_camera {
	struct v4l2_device v4l2_dev;
	struct video_device vdev;
	struct platform_device *pdev;
	u32 flags;
	char card[32];
	char bus_info[32];
	char camera_id[64];
	u64 hold_ns;

	struct maglens_format *formats;
	u32 n_formats;
	u32 max_sizeimage;
	struct maglens_input *inputs;
	u32 n_inputs;

	struct mutex lock;
	u32 format;
	u32 format_serial;
	struct maglens_fract interval;
	u32 input;
	u32 openers;
	u32 holders;

	struct v4l2_ctrl_handler hdl;
	struct maglens_ctrl *ctrls;
	u32 n_ctrls;
	bool from_backend;

	u8 *ring;
	u32 slot_size;
	u32 n_slots;

	struct mutex stage_lock;
	u8 *stage[2];

	struct mutex frame_lock;
	bool dead;
	u64 generation;
	struct list_head readers;
	u32 n_streamers;
	struct maglens_image last;
	u32 held_slot;
	struct maglens_image placeholder;
	u64 last_timestamp;
	u64 arrived;
	u64 lag_ns;
	u32 filled;
	u64 due;
	u64 interval_ns;
	struct maglens_counters counters;

	struct hrtimer timer;
	struct work_struct filler;

	spinlock_t event_lock;
	struct list_head events;
	wait_queue_head_t event_wait;
	struct maglens_pending usage;
	struct maglens_pending format_set;
	struct maglens_pending input_set;
};

/**
 * struct maglens_reader - an open file of the video device
 * @fh:		V4L2's part: events, priority
 * @cam:	the camera; lives at least as long
 * @lock:	q->lock
 * @q:		this file's own queue
 * @holds:	it has buffers, or is about to, and counts in maglens_camera.holders; written with
 *		@lock and maglens_camera.lock held
 * @sizeimage:	the format its buffers were made for
 * @queue_lock:	guards @queued
 * @queued:	buffers waiting for a frame
 * @node:	in maglens_camera.readers while streaming
 * @sequence:	number of the next frame
 */
struct maglens_reader {
	struct v4l2_fh fh;
	struct maglens_camera *cam;
	struct mutex lock;
	struct vb2_queue q;
	bool holds;
	u32 sizeimage;
	spinlock_t queue_lock;
	struct list_head queued;
	struct list_head node;
	u32 sequence;
};

/**
 * struct maglens_buffer - a reader's buffer
 * @vb:		vb2's part, must be first
 * @node:	in maglens_reader.queued
 */
struct maglens_buffer {
	struct vb2_v4l2_buffer vb;
	struct list_head node;
};

/* maglens-event.c */
void maglens_pending_init(struct maglens_pending *pending, u32 type, u32 id);
void maglens_post(struct maglens_camera *cam, struct maglens_pending *pending, s64 value);
ssize_t maglens_read(struct maglens_camera *cam, char __user *to, size_t room, bool nonblock);
bool maglens_has_event(struct maglens_camera *cam);

/* maglens-frame.c */
int maglens_frame_init(struct maglens_camera *cam, u32 slack);
void maglens_frame_free(struct maglens_camera *cam);
void maglens_frame_stop(struct maglens_camera *cam);
void maglens_set_format(struct maglens_camera *cam, u32 index, struct maglens_fract interval);
int maglens_reader_start(struct maglens_reader *reader);
void maglens_reader_stop(struct maglens_reader *reader);
int maglens_submit(struct maglens_camera *cam, struct maglens_submit *submit);
int maglens_set_placeholder(struct maglens_camera *cam, const struct maglens_placeholder *p);

/* maglens-ctrl.c */
int maglens_ctrls_init(struct maglens_camera *cam, const struct maglens_control *list, u32 n);
void maglens_ctrls_free(struct maglens_camera *cam);
int maglens_push(struct maglens_camera *cam, struct maglens_push *push);
void maglens_ctrl_state(struct maglens_camera *cam, u32 index, struct maglens_control *out);

/* maglens-queue.c */
int maglens_reqbufs(struct file *file, void *priv, struct v4l2_requestbuffers *req);
int maglens_create_bufs(struct file *file, void *priv, struct v4l2_create_buffers *create);
int maglens_querybuf(struct file *file, void *priv, struct v4l2_buffer *b);
int maglens_prepare_buf(struct file *file, void *priv, struct v4l2_buffer *b);
int maglens_qbuf(struct file *file, void *priv, struct v4l2_buffer *b);
int maglens_dqbuf(struct file *file, void *priv, struct v4l2_buffer *b);
int maglens_expbuf(struct file *file, void *priv, struct v4l2_exportbuffer *e);
int maglens_streamon(struct file *file, void *priv, enum v4l2_buf_type type);
int maglens_streamoff(struct file *file, void *priv, enum v4l2_buf_type type);
int maglens_queue_init(struct maglens_reader *reader);

/* maglens-video.c */
int maglens_video_register(struct maglens_camera *cam, int wanted_nr);
void maglens_video_unregister(struct maglens_camera *cam);

/* maglens-state.c */
int maglens_get_state(struct maglens_camera *cam, struct maglens_state *state);
int maglens_adopt(struct maglens_camera *cam, struct maglens_adopt *adopt);
int maglens_check_generation(struct maglens_camera *cam, u64 generation);
int maglens_push_input(struct maglens_camera *cam, const struct maglens_input_push *push);
int maglens_push_format(struct maglens_camera *cam, struct maglens_format_push *push);

/* maglens-main.c */
extern struct workqueue_struct *maglens_wq;

static inline struct maglens_reader *maglens_reader_of(struct file *file)
{
	return container_of(maglens_file_fh(file), struct maglens_reader, fh);
}

/* Others hold buffers, so format and interval are not this reader's to choose. */
static inline bool maglens_is_locked(const struct maglens_reader *reader)
{
	return reader->cam->holders > reader->holds;
}

static inline bool maglens_is_compressed(const struct maglens_format *f)
{
	return !f->bytesperline;
}

/* Ended by a zero, and nothing but zeros behind it. */
static inline bool maglens_padded(const char *text, size_t room)
{
	size_t n = strnlen(text, room);

	return n < room && !memchr_inv(text + n, 0, room - n);
}

static inline bool maglens_text_ok(const char *text, size_t room)
{
	return text[0] && maglens_padded(text, room);
}

static inline bool maglens_status_ok(u32 status)
{
	return !(status & ~(V4L2_IN_ST_NO_POWER | V4L2_IN_ST_NO_SIGNAL | V4L2_IN_ST_NO_COLOR |
			    V4L2_IN_ST_HFLIP | V4L2_IN_ST_VFLIP));
}

#endif /* MAGLENS_CAMERA_H */
