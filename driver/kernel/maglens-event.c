// SPDX-License-Identifier: GPL-2.0-only
/*
 * maglens: events for the backend. Level-triggered: each is embedded in what it reports on, so
 * there is at most one of a kind pending, and what is read is the state at that time.
 */
#include <linux/sched.h>
#include <linux/uaccess.h>

#include "maglens-camera.h"

void maglens_pending_init(struct maglens_pending *pending, u32 type, u32 id)
{
	INIT_LIST_HEAD(&pending->node);
	pending->type = type;
	pending->id = id;
}

void maglens_post(struct maglens_camera *cam, struct maglens_pending *pending, s64 value)
{
	char comm[TASK_COMM_LEN];

	/* Threads have names of their own; another one's exec may replace the leader meanwhile. */
	rcu_read_lock();
	get_task_comm(comm, current->group_leader);
	rcu_read_unlock();
	spin_lock(&cam->event_lock);
	pending->count++;
	pending->value = value;
	pending->tgid = task_tgid_nr(current);
	memcpy(pending->comm, comm, sizeof(pending->comm));
	if (list_empty(&pending->node))
		list_add_tail(&pending->node, &cam->events);
	spin_unlock(&cam->event_lock);
	wake_up_interruptible(&cam->event_wait);
}

bool maglens_has_event(struct maglens_camera *cam)
{
	return !list_empty_careful(&cam->events);
}

static struct maglens_pending *maglens_take(struct maglens_camera *cam, struct maglens_event *ev)
{
	struct maglens_pending *pending;

	memset(ev, 0, sizeof(*ev));
	spin_lock(&cam->event_lock);
	pending = list_first_entry_or_null(&cam->events, struct maglens_pending, node);
	if (pending) {
		list_del_init(&pending->node);
		ev->type = pending->type;
		ev->id = pending->id;
		ev->value = pending->value;
		ev->count = pending->count;
		ev->tgid = pending->tgid;
		static_assert(sizeof(ev->comm) == sizeof(pending->comm));
		memcpy(ev->comm, pending->comm, sizeof(ev->comm));
		pending->count = 0;
	}
	spin_unlock(&cam->event_lock);
	if (!pending)
		return NULL;

	/* Looked up after the event was taken: what changes from here on posts a new one. */
	mutex_lock(&cam->lock);
	ev->openers = cam->openers;
	ev->holders = cam->holders;
	ev->format_index = cam->format;
	ev->format_serial = cam->format_serial;
	ev->interval = cam->interval;
	ev->input = cam->input;
	ev->generation = cam->generation;
	/* Without frame_lock, under which frames are copied: a change of it posts after it. */
	ev->streamers = READ_ONCE(cam->n_streamers);
	mutex_unlock(&cam->lock);
	return pending;
}

/* The backend gave us a bad address: the event is not lost by that. */
static void maglens_untake(struct maglens_camera *cam, struct maglens_pending *pending, u32 count)
{
	spin_lock(&cam->event_lock);
	pending->count += count;
	if (list_empty(&pending->node))
		list_add(&pending->node, &cam->events);
	spin_unlock(&cam->event_lock);
	wake_up_interruptible(&cam->event_wait);
}

ssize_t maglens_read(struct maglens_camera *cam, char __user *to, size_t room, bool nonblock)
{
	struct maglens_pending *pending;
	struct maglens_event ev;
	ssize_t done = 0;
	int ret;

	if (room < sizeof(ev))
		return -EINVAL;
	while (room - done >= sizeof(ev)) {
		pending = maglens_take(cam, &ev);
		if (!pending) {
			if (done)
				break;
			if (nonblock)
				return -EAGAIN;
			ret = wait_event_interruptible(cam->event_wait, maglens_has_event(cam));
			if (ret)
				return ret;
			continue;
		}
		if (copy_to_user(to + done, &ev, sizeof(ev))) {
			maglens_untake(cam, pending, ev.count);
			return done ?: -EFAULT;
		}
		done += sizeof(ev);
		/* A storm of new events must not keep one read going for ever. */
		if (signal_pending(current))
			break;
	}
	return done;
}
