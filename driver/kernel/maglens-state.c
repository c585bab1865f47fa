// SPDX-License-Identifier: GPL-2.0-only
/*
 * maglens: what the backend asks and tells about the camera as a whole: state, adoption, inputs,
 * format.
 */
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <media/v4l2-event.h>

#include "maglens-camera.h"

/* Copies as much of a list as there is room for; a room of none needs no address. */
static int maglens_copy_list(u64 to, u32 room, const void *list, u32 n, size_t size)
{
	u32 take = min(room, n);

	return take && copy_to_user(u64_to_user_ptr(to), list, take * size) ? -EFAULT : 0;
}

static int maglens_copy_inputs(struct maglens_camera *cam, u64 to, u32 room)
{
	struct maglens_input inputs[MAGLENS_MAX_INPUTS];

	mutex_lock(&cam->lock);
	memcpy(inputs, cam->inputs, cam->n_inputs * sizeof(*inputs));
	mutex_unlock(&cam->lock);
	return maglens_copy_list(to, room, inputs, cam->n_inputs, sizeof(*inputs));
}

static int maglens_copy_controls(struct maglens_camera *cam, u64 to, u32 room)
{
	struct maglens_control control;
	u32 i;

	for (i = 0; i < min(room, cam->n_ctrls); i++) {
		maglens_ctrl_state(cam, i, &control);
		if (copy_to_user(u64_to_user_ptr(to + i * sizeof(control)), &control,
				 sizeof(control)))
			return -EFAULT;
	}
	return 0;
}

int maglens_get_state(struct maglens_camera *cam, struct maglens_state *state)
{
	const struct maglens_state ask = *state;
	int ret;

	memset(state, 0, sizeof(*state));
	state->formats = ask.formats;
	state->controls = ask.controls;
	state->inputs = ask.inputs;
	state->abi_version = MAGLENS_ABI_VERSION;
	state->flags = cam->flags;
	memcpy(state->card, cam->card, sizeof(state->card));
	memcpy(state->bus_info, cam->bus_info, sizeof(state->bus_info));
	memcpy(state->camera_id, cam->camera_id, sizeof(state->camera_id));
	state->n_slots = cam->n_slots;
	state->slot_size = cam->slot_size;
	state->slot_slack = cam->slot_size - cam->max_sizeimage;
	state->n_formats = cam->n_formats;
	state->n_controls = cam->n_ctrls;
	state->n_inputs = cam->n_inputs;
	state->hold_ms = div_u64(cam->hold_ns, NSEC_PER_MSEC);
	state->video_nr = cam->vdev.num;
	state->ring_size = (u64)cam->slot_size * cam->n_slots;

	mutex_lock(&cam->lock);
	state->format_index = cam->format;
	state->format_serial = cam->format_serial;
	state->interval = cam->interval;
	state->input = cam->input;
	state->openers = cam->openers;
	state->holders = cam->holders;
	mutex_lock(&cam->frame_lock);
	state->generation = cam->generation;
	state->streamers = cam->n_streamers;
	state->held_slot = cam->held_slot;
	state->placeholder = !!cam->placeholder.data;
	state->last_timestamp_ns = cam->last_timestamp;
	state->counters = cam->counters;
	mutex_unlock(&cam->frame_lock);
	mutex_unlock(&cam->lock);

	ret = maglens_copy_list(ask.formats, ask.n_formats, cam->formats, cam->n_formats,
				sizeof(*cam->formats));
	if (!ret)
		ret = maglens_copy_controls(cam, ask.controls, ask.n_controls);
	if (!ret)
		ret = maglens_copy_inputs(cam, ask.inputs, ask.n_inputs);
	return ret;
}

int maglens_adopt(struct maglens_camera *cam, struct maglens_adopt *adopt)
{
	if (adopt->abi_version != MAGLENS_ABI_VERSION)
		return -EPROTONOSUPPORT;
	if (adopt->reserved)
		return -EINVAL;
	/* All three, so that nothing of the old generation is still under way on return. */
	mutex_lock(&cam->lock);
	mutex_lock(cam->hdl.lock);
	mutex_lock(&cam->frame_lock);
	adopt->generation = ++cam->generation;
	cam->counters.adoptions++;
	mutex_unlock(&cam->frame_lock);
	mutex_unlock(cam->hdl.lock);
	mutex_unlock(&cam->lock);
	return 0;
}

/* The caller holds cam->lock or hdl.lock, either of which keeps the generation. */
int maglens_check_generation(struct maglens_camera *cam, u64 generation)
{
	lockdep_assert(lockdep_is_held(&cam->lock) || lockdep_is_held(cam->hdl.lock));
	if (generation == cam->generation)
		return 0;
	/* Only now: deliveries to every reader are made under this lock. */
	mutex_lock(&cam->frame_lock);
	cam->counters.stale++;
	mutex_unlock(&cam->frame_lock);
	return -ESTALE;
}

int maglens_push_input(struct maglens_camera *cam, const struct maglens_input_push *push)
{
	struct maglens_input *input;
	int ret;

	if (push->index >= cam->n_inputs || memchr_inv(push->input.reserved, 0,
						       sizeof(push->input.reserved)) ||
	    push->what & ~(MAGLENS_INPUT_STATUS | MAGLENS_INPUT_NAME) ||
	    (push->what & MAGLENS_INPUT_STATUS && !maglens_status_ok(push->input.status)) ||
	    (push->what & MAGLENS_INPUT_NAME &&
	     !maglens_text_ok(push->input.name, sizeof(push->input.name))))
		return -EINVAL;
	mutex_lock(&cam->lock);
	ret = maglens_check_generation(cam, push->generation);
	if (!ret) {
		input = &cam->inputs[push->index];
		if (push->what & MAGLENS_INPUT_STATUS)
			input->status = push->input.status;
		if (push->what & MAGLENS_INPUT_NAME)
			memcpy(input->name, push->input.name, sizeof(input->name));
	}
	mutex_unlock(&cam->lock);
	return ret;
}

static bool maglens_has_interval(const struct maglens_format *f, struct maglens_fract interval)
{
	u32 i;

	for (i = 0; i < f->n_intervals; i++)
		if (f->intervals[i].numerator == interval.numerator &&
		    f->intervals[i].denominator == interval.denominator)
			return true;
	return false;
}

int maglens_push_format(struct maglens_camera *cam, struct maglens_format_push *push)
{
	static const struct v4l2_event changed = {
		.type = V4L2_EVENT_SOURCE_CHANGE,
		.u.src_change.changes = V4L2_EVENT_SRC_CH_RESOLUTION,
	};
	const struct maglens_format *f;
	bool differs;
	int ret;

	if (push->reserved || push->format_index >= cam->n_formats)
		return -EINVAL;
	f = &cam->formats[push->format_index];
	if (!push->interval.numerator && !push->interval.denominator)
		push->interval = f->intervals[0];
	if (!maglens_has_interval(f, push->interval))
		return -EINVAL;

	mutex_lock(&cam->lock);
	ret = maglens_check_generation(cam, push->generation);
	if (!ret && cam->holders)
		ret = -EBUSY;
	if (!ret) {
		differs = push->format_index != cam->format;
		maglens_set_format(cam, push->format_index, push->interval);
		if (differs)
			v4l2_event_queue(&cam->vdev, &changed);
	}
	push->format_serial = cam->format_serial;
	mutex_unlock(&cam->lock);
	return ret;
}
