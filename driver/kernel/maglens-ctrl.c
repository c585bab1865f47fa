// SPDX-License-Identifier: GPL-2.0-only
/*
 * maglens: controls. Set by applications they become events for the backend, and s_ctrl returns at
 * once; pushed by the backend they become V4L2 events for applications.
 */
#include <linux/limits.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "maglens-camera.h"

/* Flags a backend may ask for. VOLATILE is not among them: it would silence events. */
#define MAGLENS_CTRL_FLAGS \
	(V4L2_CTRL_FLAG_READ_ONLY | V4L2_CTRL_FLAG_INACTIVE | V4L2_CTRL_FLAG_SLIDER)

static s64 maglens_wide(const struct v4l2_ctrl *ctrl, s32 value)
{
	return ctrl->type == V4L2_CTRL_TYPE_BITMASK ? (u32)value : value;
}

static int maglens_s_ctrl(struct v4l2_ctrl *ctrl)
{
	struct maglens_camera *cam = container_of(ctrl->handler, struct maglens_camera, hdl);
	struct maglens_ctrl *mc = ctrl->priv;

	if (!cam->from_backend)
		maglens_post(cam, &mc->set, maglens_wide(ctrl, ctrl->val));
	return 0;
}

static const struct v4l2_ctrl_ops maglens_ctrl_ops = {
	.s_ctrl = maglens_s_ctrl,
};

/* The core checks how the numbers relate; here, that they fit its 32 bits and the menu. */
static bool maglens_range_ok(u32 type, u32 n_menu, s64 min, s64 max, s64 step, s64 def)
{
	switch (type) {
	case V4L2_CTRL_TYPE_INTEGER:
		return min >= S32_MIN && max <= S32_MAX && step > 0 && step <= S32_MAX &&
		       def >= S32_MIN && def <= S32_MAX;
	case V4L2_CTRL_TYPE_BOOLEAN:
		return min == 0 && max == 1 && step == 1;
	case V4L2_CTRL_TYPE_MENU:
	case V4L2_CTRL_TYPE_INTEGER_MENU:
		return min >= 0 && max < n_menu;
	case V4L2_CTRL_TYPE_BITMASK:
		return max > 0 && max <= U32_MAX && def >= 0;
	case V4L2_CTRL_TYPE_BUTTON:
		return !min && !max && !step && !def;
	default:
		return false;
	}
}

/* Menus: from the backend, or V4L2's own. Sets mc->n_menu. */
static int maglens_ctrl_menu(struct maglens_ctrl *mc, const struct maglens_control *d, u32 type,
			     bool standard)
{
	const char * const *own = NULL;
	u32 i;

	if (standard && type == V4L2_CTRL_TYPE_MENU)
		own = v4l2_ctrl_get_menu(d->id);
	if (own) {
		if (d->n_menu)
			return -EINVAL;
		while (own[mc->n_menu])
			mc->n_menu++;
		return 0;
	}
	if (!d->n_menu || d->n_menu > MAGLENS_MAX_MENU)
		return -EINVAL;
	mc->n_menu = d->n_menu;
	mc->items = memdup_user(u64_to_user_ptr(d->menu), d->n_menu * sizeof(*mc->items));
	if (IS_ERR(mc->items)) {
		int ret = PTR_ERR(mc->items);

		mc->items = NULL;
		return ret;
	}
	if (type == V4L2_CTRL_TYPE_INTEGER_MENU) {
		mc->qmenu_int = kcalloc(d->n_menu, sizeof(*mc->qmenu_int), GFP_KERNEL);
		if (!mc->qmenu_int)
			return -ENOMEM;
		for (i = 0; i < d->n_menu; i++)
			mc->qmenu_int[i] = mc->items[i].value;
		return 0;
	}
	mc->qmenu = kcalloc(d->n_menu, sizeof(*mc->qmenu), GFP_KERNEL);
	if (!mc->qmenu)
		return -ENOMEM;
	for (i = 0; i < d->n_menu; i++) {
		if (!maglens_text_ok(mc->items[i].name, sizeof(mc->items[i].name)))
			return -EINVAL;
		mc->qmenu[i] = mc->items[i].name;
	}
	return 0;
}

static bool maglens_private_id(u32 id)
{
	u32 class = V4L2_CTRL_ID2WHICH(id);

	return V4L2_CTRL_DRIVER_PRIV(id) &&
	       (class == V4L2_CTRL_CLASS_USER || class == V4L2_CTRL_CLASS_CAMERA);
}

static int maglens_ctrl_add(struct maglens_camera *cam, struct maglens_ctrl *mc,
			    const struct maglens_control *d)
{
	struct v4l2_ctrl_config cfg = { .ops = &maglens_ctrl_ops, .id = d->id };
	enum v4l2_ctrl_type type;
	const char *name;
	s64 min, max, def;
	bool standard;
	u32 flags;
	u64 step;
	int ret;

	if (d->id & ~V4L2_CTRL_ID_MASK || d->flags & ~MAGLENS_CTRL_FLAGS || d->value ||
	    v4l2_ctrl_find(&cam->hdl, d->id))
		return -EINVAL;
	v4l2_ctrl_fill(d->id, &name, &type, &min, &max, &step, &def, &flags);
	standard = name;
	if (standard) {
		if (memchr_inv(d->name, 0, sizeof(d->name)) || (d->type && d->type != type))
			return -EINVAL;
		cfg.name = name;
		cfg.type = type;
		cfg.flags = (flags & ~V4L2_CTRL_FLAG_VOLATILE) | d->flags;
	} else {
		if (!maglens_private_id(d->id) || !maglens_text_ok(d->name, sizeof(d->name)))
			return -EINVAL;
		memcpy(mc->name, d->name, sizeof(mc->name));
		cfg.name = mc->name;
		cfg.type = d->type;
		cfg.flags = d->flags;
	}

	if (cfg.type == V4L2_CTRL_TYPE_MENU || cfg.type == V4L2_CTRL_TYPE_INTEGER_MENU) {
		if (d->step)
			return -EINVAL;
		ret = maglens_ctrl_menu(mc, d, cfg.type, standard);
		if (ret)
			return ret;
		cfg.qmenu = mc->qmenu;
		cfg.qmenu_int = mc->qmenu_int;
		cfg.menu_skip_mask = d->menu_skip_mask;
	} else if (d->menu_skip_mask || d->n_menu || d->menu) {
		return -EINVAL;
	}
	if (!maglens_range_ok(cfg.type, mc->n_menu, d->minimum, d->maximum, d->step,
			      d->default_value))
		return -EINVAL;
	cfg.min = d->minimum;
	cfg.max = d->maximum;
	cfg.step = d->step;
	cfg.def = d->default_value;

	/* Tells a hand on a slider from an application that writes what it saved. */
	if (!(cfg.flags & V4L2_CTRL_FLAG_READ_ONLY))
		cfg.flags |= V4L2_CTRL_FLAG_EXECUTE_ON_WRITE;

	maglens_pending_init(&mc->set, MAGLENS_EVENT_CONTROL, d->id);
	mc->ctrl = v4l2_ctrl_new_custom(&cam->hdl, &cfg, mc);
	if (mc->ctrl)
		return 0;
	return cam->hdl.error == -ENOMEM ? -ENOMEM : -EINVAL;
}

/* Needs maglens_ctrls_free() even if it fails. */
int maglens_ctrls_init(struct maglens_camera *cam, const struct maglens_control *list, u32 n)
{
	int ret;
	u32 i;

	cam->ctrls = kcalloc(n, sizeof(*cam->ctrls), GFP_KERNEL);
	if (!cam->ctrls)
		return -ENOMEM;
	cam->n_ctrls = n;
	ret = v4l2_ctrl_handler_init(&cam->hdl, n);
	for (i = 0; i < n && !ret; i++)
		ret = maglens_ctrl_add(cam, &cam->ctrls[i], &list[i]);
	return ret;
}

void maglens_ctrls_free(struct maglens_camera *cam)
{
	u32 i;

	v4l2_ctrl_handler_free(&cam->hdl);
	for (i = 0; cam->ctrls && i < cam->n_ctrls; i++) {
		kfree(cam->ctrls[i].qmenu);
		kfree(cam->ctrls[i].qmenu_int);
		kfree(cam->ctrls[i].items);
	}
	kfree(cam->ctrls);
}

static int maglens_push_range(const struct maglens_ctrl *mc, const struct maglens_push *push)
{
	struct v4l2_ctrl *ctrl = mc->ctrl;
	s64 min = ctrl->minimum, max = ctrl->maximum, step = ctrl->step, def = ctrl->default_value;
	int ret;

	if (push->what & MAGLENS_PUSH_RANGE) {
		min = push->minimum;
		max = push->maximum;
		step = push->step;
		if (min > max)
			return -ERANGE;
		if (ctrl->type == V4L2_CTRL_TYPE_BITMASK)
			def &= max;
		else
			def = clamp(def, min, max);
	}
	if (push->what & MAGLENS_PUSH_DEFAULT)
		def = push->default_value;
	if (!maglens_range_ok(ctrl->type, mc->n_menu, min, max, step, def))
		return -ERANGE;
	ret = __v4l2_ctrl_modify_range(ctrl, min, max, step, def);
	return ret ? -ERANGE : 0;
}

/* What the core makes of a value for an integer control. */
static s64 maglens_round(const struct v4l2_ctrl *ctrl, s64 value)
{
	s64 half = ctrl->step / 2;

	value = clamp_t(s64, value, ctrl->minimum, ctrl->maximum);
	if (ctrl->maximum >= 0 && value >= ctrl->maximum - half)
		value = ctrl->maximum;
	else
		value = min_t(s64, value + half, ctrl->maximum);
	return value - (u32)(value - ctrl->minimum) % (u32)ctrl->step;
}

static int maglens_push_value(struct v4l2_ctrl *ctrl, s64 value)
{
	switch (ctrl->type) {
	case V4L2_CTRL_TYPE_INTEGER:
		value = maglens_round(ctrl, value);
		break;
	case V4L2_CTRL_TYPE_BITMASK:
		value &= ctrl->maximum;
		break;
	case V4L2_CTRL_TYPE_MENU:
	case V4L2_CTRL_TYPE_INTEGER_MENU:
		if (value < ctrl->minimum || value > ctrl->maximum ||
		    (value < BITS_PER_LONG_LONG && ctrl->menu_skip_mask & BIT_ULL(value)))
			return -ERANGE;
		break;
	default:
		value = clamp_t(s64, value, ctrl->minimum, ctrl->maximum);
	}
	/* With EXECUTE_ON_WRITE, V4L2 would announce it as a change. */
	if (value == maglens_wide(ctrl, ctrl->cur.val))
		return 0;
	return __v4l2_ctrl_s_ctrl(ctrl, value);
}

int maglens_push(struct maglens_camera *cam, struct maglens_push *push)
{
	const u32 values = MAGLENS_PUSH_VALUE | MAGLENS_PUSH_RANGE | MAGLENS_PUSH_DEFAULT;
	struct v4l2_ctrl *ctrl;
	int ret;

	if (push->what & ~(values | MAGLENS_PUSH_ACTIVE) || push->active > 1 ||
	    memchr_inv(push->reserved, 0, sizeof(push->reserved)))
		return -EINVAL;
	ctrl = v4l2_ctrl_find(&cam->hdl, push->id);
	if (!ctrl || !ctrl->priv)
		return -ENOENT;
	if (ctrl->type == V4L2_CTRL_TYPE_BUTTON && push->what & values)
		return -EINVAL;

	v4l2_ctrl_lock(ctrl);
	/* ADOPT holds this lock too, so what is current here stays so until it is done. */
	ret = maglens_check_generation(cam, push->generation);
	if (ret) {
		v4l2_ctrl_unlock(ctrl);
		return ret;
	}
	cam->from_backend = true;
	if (push->what & (MAGLENS_PUSH_RANGE | MAGLENS_PUSH_DEFAULT))
		ret = maglens_push_range(ctrl->priv, push);
	if (!ret && push->what & MAGLENS_PUSH_ACTIVE)
		v4l2_ctrl_activate(ctrl, push->active);
	if (!ret && push->what & MAGLENS_PUSH_VALUE)
		ret = maglens_push_value(ctrl, push->value);
	cam->from_backend = false;
	push->value = maglens_wide(ctrl, ctrl->cur.val);
	v4l2_ctrl_unlock(ctrl);
	return ret;
}

void maglens_ctrl_state(struct maglens_camera *cam, u32 index, struct maglens_control *out)
{
	const struct maglens_ctrl *mc = &cam->ctrls[index];
	struct v4l2_ctrl *ctrl = mc->ctrl;

	memset(out, 0, sizeof(*out));
	out->id = ctrl->id;
	out->type = ctrl->type;
	out->n_menu = mc->n_menu;
	strscpy(out->name, ctrl->name, sizeof(out->name));
	v4l2_ctrl_lock(ctrl);
	out->flags = ctrl->flags;
	out->minimum = ctrl->minimum;
	out->maximum = ctrl->maximum;
	if (ctrl->type == V4L2_CTRL_TYPE_MENU || ctrl->type == V4L2_CTRL_TYPE_INTEGER_MENU)
		out->menu_skip_mask = ctrl->menu_skip_mask;
	else
		out->step = ctrl->step;
	out->default_value = ctrl->default_value;
	out->value = maglens_wide(ctrl, ctrl->cur.val);
	v4l2_ctrl_unlock(ctrl);
}
