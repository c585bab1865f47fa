/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * maglens: a V4L2 camera whose driver is a userspace process.
 *
 * A process (the backend) opens /dev/maglens and describes a camera with
 * MAGLENS_IOC_CREATE. From then on the open file *is* the camera: it appears as
 * a /dev/videoN, and disappears when the last copy of that file is closed (by
 * descriptor, by a mapping of the ring, or by a descriptor parked elsewhere).
 * Several processes may hold the file at once; every call may be made from any
 * of them at any time.
 *
 * Layouts are the same for 32-bit and 64-bit processes. Reserved fields, and
 * bits of flag words not named here, must be zero: they are refused with EINVAL
 * otherwise, so that they can be given a meaning later. Strings are padded with
 * zeros and hold at least one; one with anything behind its zero is refused, too.
 *
 * Errors common to every ioctl: EFAULT (bad address), EINVAL (a field out of the
 * range given here), ENODEV (no camera was created on this file), ENOMEM,
 * ENOTTY (no such ioctl, or a different ABI version's).
 */
#ifndef _UAPI_LINUX_MAGLENS_H
#define _UAPI_LINUX_MAGLENS_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* Raised when a layout or a meaning changes in a way old backends cannot bear. */
#define MAGLENS_ABI_VERSION	1

/* Ceilings. Each is checked before anything is allocated. */
#define MAGLENS_MAX_FORMATS	128	/* entries: a fourcc at a size */
#define MAGLENS_MAX_INTERVALS	8	/* frame intervals per format */
#define MAGLENS_MAX_CONTROLS	64
#define MAGLENS_MAX_MENU	64	/* items of one menu */
#define MAGLENS_MAX_INPUTS	16
#define MAGLENS_MIN_SLOTS	2
#define MAGLENS_MAX_SLOTS	64
#define MAGLENS_MAX_DIMENSION	16384	/* pixels, either way */
#define MAGLENS_MAX_SIZEIMAGE	0x10000000	/* 256 MiB */
#define MAGLENS_MAX_SLACK	0x1000000	/* 16 MiB */
#define MAGLENS_MAX_RING	0x40000000	/* 1 GiB, all slots together */
#define MAGLENS_MIN_INTERVAL_US	1000		/* 1000 frames/s */
#define MAGLENS_MAX_INTERVAL_US	60000000	/* one frame a minute */
#define MAGLENS_MAX_HOLD_MS	60000
#define MAGLENS_MAX_VIDEO_NR	255

/**
 * struct maglens_fract - a frame interval in seconds
 * @numerator:	seconds, times @denominator
 * @denominator: not zero
 */
struct maglens_fract {
	__u32 numerator;
	__u32 denominator;
};

/**
 * struct maglens_format - one picture format the camera offers to applications
 * @fourcc:	V4L2_PIX_FMT_*
 * @width:	pixels
 * @height:	lines
 * @bytesperline: of the first plane; 0 says that the format is compressed
 * @sizeimage:	bytes: exact for uncompressed formats, the most for compressed ones
 * @colorspace:	enum v4l2_colorspace, not 0
 * @ycbcr_enc:	enum v4l2_ycbcr_encoding
 * @quantization: enum v4l2_quantization
 * @xfer_func:	enum v4l2_xfer_func
 * @n_intervals: used entries of @intervals, at least one
 * @reserved:	zero
 * @intervals:	the first is the format's default
 *
 * No two formats may agree in fourcc, width and height.
 */
struct maglens_format {
	__u32 fourcc;
	__u32 width;
	__u32 height;
	__u32 bytesperline;
	__u32 sizeimage;
	__u32 colorspace;
	__u32 ycbcr_enc;
	__u32 quantization;
	__u32 xfer_func;
	__u32 n_intervals;
	__u32 reserved[2];
	struct maglens_fract intervals[MAGLENS_MAX_INTERVALS];
};

/**
 * struct maglens_menu_item - one line of a menu control
 * @name:	for V4L2_CTRL_TYPE_MENU: not empty
 * @value:	for V4L2_CTRL_TYPE_INTEGER_MENU
 */
struct maglens_menu_item {
	union {
		char name[32];
		__s64 value;
	};
};

/**
 * struct maglens_control - one control, as created and as reported by STATE
 * @id:		V4L2_CID_*, or a private id (V4L2_CTRL_DRIVER_PRIV) in the user or camera class
 * @type:	V4L2_CTRL_TYPE_INTEGER, BOOLEAN, MENU, INTEGER_MENU, BUTTON or BITMASK;
 *		for a standard id 0 will do, and any other value must agree with V4L2's
 * @flags:	V4L2_CTRL_FLAG_READ_ONLY, INACTIVE or SLIDER; V4L2's own for a standard id are
 *		added, except VOLATILE: readings are pushed, so that applications get events. All
 *		that can be written get EXECUTE_ON_WRITE: unchanged values reach the backend too
 * @n_menu:	used entries of @menu. 0 for a standard MENU takes V4L2's own items
 * @minimum:	lowest value; a menu's lowest index; 0 for BUTTON and BITMASK
 * @maximum:	highest value; a menu's highest index; BITMASK's permitted bits; 0 for BUTTON
 * @step:	1 for BOOLEAN; 0 for menus, BUTTON and BITMASK
 * @default_value: what an application's reset restores; also the first value
 * @menu_skip_mask: bit n set: index n is not offered (menus only)
 * @menu:	CREATE: address of @n_menu struct maglens_menu_item. STATE: 0
 * @value:	STATE: the current value. CREATE: zero
 * @name:	of a private control; empty for a standard id, whose name is V4L2's
 *
 * Values are 32 bits wide in V4L2; the fields are wider for BITMASK's sake.
 */
struct maglens_control {
	__u32 id;
	__u32 type;
	__u32 flags;
	__u32 n_menu;
	__s64 minimum;
	__s64 maximum;
	__s64 step;
	__s64 default_value;
	__u64 menu_skip_mask;
	__u64 menu;
	__s64 value;
	char name[32];
};

/**
 * struct maglens_input - one entry of the camera's list of inputs
 * @name:	what applications show, not empty
 * @status:	0 says all is well, V4L2_IN_ST_NO_SIGNAL that nothing is there; also
 *		V4L2_IN_ST_NO_POWER, NO_COLOR, HFLIP and VFLIP
 * @reserved:	zero
 */
struct maglens_input {
	char name[32];
	__u32 status;
	__u32 reserved[3];
};

/* maglens_create.flags: one streamer at a time, the strict reading of V4L2. Without it every
 * open file may stream at once, all in one format.
 */
#define MAGLENS_FLAG_EXCLUSIVE	0x1

/**
 * struct maglens_create - MAGLENS_IOC_CREATE: make the camera of this file
 * @abi_version: in: MAGLENS_ABI_VERSION; another is refused with EPROTONOSUPPORT
 * @flags:	in: MAGLENS_FLAG_*
 * @card:	in: the camera's name, not empty
 * @bus_info:	in: V4L2 bus_info ("platform:..."); empty for one made up by the kernel
 * @camera_id:	in: letters, digits and "._-", at least one: the same after every boot. It is also
 *		the sysfs attribute camera_id of the video device's parent, for links by id
 * @n_slots:	in: frames the ring holds, MAGLENS_MIN_SLOTS to MAGLENS_MAX_SLOTS
 * @slot_slack:	in: bytes wanted behind the largest sizeimage in each slot; at least one page is
 *		given, since a USB transfer is asked one packet longer than the frame
 * @n_formats:	in: entries at @formats, at least one
 * @n_controls:	in: entries at @controls
 * @n_inputs:	in: entries at @inputs, at least one
 * @hold_ms:	in: how long the filler repeats the last frame before it turns to the placeholder
 * @video_nr:	in: the N wished for in /dev/videoN, -1 for any. out: the N it became
 * @slot_size:	out: bytes from one slot to the next, a multiple of the page size
 * @formats:	in: address of struct maglens_format[]; the first is the camera's first choice
 * @controls:	in: address of struct maglens_control[]
 * @inputs:	in: address of struct maglens_input[]
 * @ring_size:	out: bytes to mmap() from offset 0 of this file, shared: @n_slots * @slot_size
 * @generation:	out: the generation frames must carry, see MAGLENS_IOC_ADOPT
 * @reserved:	zero
 *
 * EEXIST: this file has a camera already.
 */
struct maglens_create {
	__u32 abi_version;
	__u32 flags;
	char card[32];
	char bus_info[32];
	char camera_id[64];
	__u32 n_slots;
	__u32 slot_slack;
	__u32 n_formats;
	__u32 n_controls;
	__u32 n_inputs;
	__u32 hold_ms;
	__s32 video_nr;
	__u32 slot_size;
	__u64 formats;
	__u64 controls;
	__u64 inputs;
	__u64 ring_size;
	__u64 generation;
	__u64 reserved[4];
};

/* maglens_submit.flags: the picture is at @address, not in a slot. */
#define MAGLENS_SUBMIT_ADDRESS	0x1

/**
 * struct maglens_submit - MAGLENS_IOC_SUBMIT: hand one frame to every reader
 * @flags:	in: MAGLENS_SUBMIT_*
 * @slot:	in: the slot it lies in; 0 with MAGLENS_SUBMIT_ADDRESS
 * @address:	in: with MAGLENS_SUBMIT_ADDRESS where it lies in the caller's memory, else 0
 * @bytesused:	in: bytes of the picture: sizeimage of the current format; compressed, at most that
 * @format_serial: in: which choice of format it was made for, see struct maglens_state
 * @timestamp_ns: in: start of exposure, CLOCK_MONOTONIC; 0 stands for now
 * @generation:	in: the camera's generation
 * @delivered:	out: readers it reached
 * @dropped:	out: readers that had no buffer queued
 * @filled:	out: frames that the filler has shown since the frame before this one
 * @reserved:	zero
 *
 * The picture is copied once per reader before the call returns (from @address: once more). The
 * slot submitted last stays the kernel's, which may show it again, until another has been
 * submitted: do not write to it. Timestamps that do not rise are moved up, those of the future
 * down to now. With nobody streaming the frame is counted and dropped.
 *
 * ESTALE: @generation is not the camera's: someone has adopted it. EREMCHG: @format_serial is
 * not the current one: the format has changed. EMSGSIZE: @bytesused does not fit the format.
 * These refusals are counted, and nothing is shown. EINTR, with MAGLENS_SUBMIT_ADDRESS: killed
 * while it waited for another such call, which copies from memory that may be slow to come.
 */
struct maglens_submit {
	__u32 flags;
	__u32 slot;
	__u64 address;
	__u32 bytesused;
	__u32 format_serial;
	__u64 timestamp_ns;
	__u64 generation;
	__u32 delivered;
	__u32 dropped;
	__u32 filled;
	__u32 reserved[3];
};

/**
 * struct maglens_placeholder - MAGLENS_IOC_PLACEHOLDER: the filler's picture
 * @generation:	in: the camera's generation
 * @address:	in: where it lies in the caller's memory
 * @bytesused:	in: its length as in struct maglens_submit; 0 takes the placeholder away
 * @format_serial: in: which choice of format it was made for
 * @reserved:	zero
 *
 * While someone streams and no frame has come for nearly two intervals, the kernel shows the last
 * frame for hold_ms, then the placeholder, at the nominal rate. It is forgotten when the format
 * changes. Without one the last frame goes on; without either, black (uncompressed formats only).
 * Errors as of MAGLENS_IOC_SUBMIT.
 */
struct maglens_placeholder {
	__u64 generation;
	__u64 address;
	__u32 bytesused;
	__u32 format_serial;
	__u64 reserved[2];
};

/**
 * struct maglens_counters - what has happened since the camera was created
 * @submitted:	frames accepted by SUBMIT
 * @delivered:	copies handed to readers
 * @dropped:	copies not made because a reader had no buffer queued
 * @unwatched:	frames accepted while nobody streamed
 * @stale:	refused for their generation
 * @mismatched:	refused for their format_serial or length
 * @filled:	frames made up by the filler
 * @adoptions:	calls of MAGLENS_IOC_ADOPT
 */
struct maglens_counters {
	__u64 submitted;
	__u64 delivered;
	__u64 dropped;
	__u64 unwatched;
	__u64 stale;
	__u64 mismatched;
	__u64 filled;
	__u64 adoptions;
};

#define MAGLENS_NO_SLOT		(~0U)

/**
 * struct maglens_state - MAGLENS_IOC_STATE: all that a new backend needs to take over
 * @abi_version: out: the kernel's MAGLENS_ABI_VERSION
 * @flags:	out: as created
 * @card:	out: as created
 * @bus_info:	out: as created or made up
 * @camera_id:	out: as created
 * @n_slots:	out: as created
 * @slot_size:	out: as struct maglens_create
 * @slot_slack:	out: bytes free behind the largest sizeimage, at least as many as asked
 * @n_formats:	in: room at @formats, in entries. out: how many the camera has
 * @n_controls:	in: room at @controls. out: how many the camera has
 * @n_inputs:	in: room at @inputs. out: how many the camera has
 * @hold_ms:	out: as created
 * @video_nr:	out: N of /dev/videoN
 * @formats:	in: address of room for struct maglens_format[], or 0
 * @controls:	in: address of room for struct maglens_control[], or 0
 * @inputs:	in: address of room for struct maglens_input[], or 0
 * @ring_size:	out: bytes to mmap()
 * @generation:	out: current
 * @format_index: out: the chosen entry of @formats
 * @format_serial: out: rises with every change of format
 * @interval:	out: the chosen frame interval
 * @input:	out: the chosen entry of @inputs
 * @openers:	out: open files of the video device
 * @holders:	out: those that have buffers, or are about to, which locks the format
 * @streamers:	out: those that stream
 * @held_slot:	out: the slot the kernel may still show, or MAGLENS_NO_SLOT
 * @placeholder: out: 1 if one is set
 * @last_timestamp_ns: out: of the last frame handed out, 0 if none
 * @counters:	out
 * @reserved:	zero
 *
 * The lists are copied as far as there is room. Needs no past event: read it after ADOPT.
 */
struct maglens_state {
	__u32 abi_version;
	__u32 flags;
	char card[32];
	char bus_info[32];
	char camera_id[64];
	__u32 n_slots;
	__u32 slot_size;
	__u32 slot_slack;
	__u32 n_formats;
	__u32 n_controls;
	__u32 n_inputs;
	__u32 hold_ms;
	__s32 video_nr;
	__u64 formats;
	__u64 controls;
	__u64 inputs;
	__u64 ring_size;
	__u64 generation;
	__u32 format_index;
	__u32 format_serial;
	struct maglens_fract interval;
	__u32 input;
	__u32 openers;
	__u32 holders;
	__u32 streamers;
	__u32 held_slot;
	__u32 placeholder;
	__u64 last_timestamp_ns;
	struct maglens_counters counters;
	__u64 reserved[4];
};

/**
 * struct maglens_adopt - MAGLENS_IOC_ADOPT: raise the generation
 * @abi_version: in: MAGLENS_ABI_VERSION; another is refused with EPROTONOSUPPORT
 * @reserved:	zero
 * @generation:	out: the new one
 *
 * Called by a backend that takes the camera over, and before each swap of the source: once it has
 * returned, no frame, placeholder or push of an earlier generation has any effect.
 */
struct maglens_adopt {
	__u32 abi_version;
	__u32 reserved;
	__u64 generation;
};

/* maglens_push.what */
#define MAGLENS_PUSH_VALUE	0x1
#define MAGLENS_PUSH_RANGE	0x2	/* minimum, maximum, step */
#define MAGLENS_PUSH_DEFAULT	0x4
#define MAGLENS_PUSH_ACTIVE	0x8	/* V4L2_CTRL_FLAG_INACTIVE, inverted */

/**
 * struct maglens_push - MAGLENS_IOC_PUSH: change a control from below
 * @generation:	in: the camera's generation
 * @id:		in: which control
 * @what:	in: MAGLENS_PUSH_*, which of the fields below to apply
 * @minimum:	in: with MAGLENS_PUSH_RANGE, as in struct maglens_control
 * @maximum:	in: likewise
 * @step:	in: likewise; for menus the skip mask
 * @default_value: in: with MAGLENS_PUSH_DEFAULT; if only the range is given, it is clamped to it
 * @value:	in: with MAGLENS_PUSH_VALUE, clamped to the range. out: the value now in force
 * @active:	in: with MAGLENS_PUSH_ACTIVE: 0 or 1
 * @reserved:	zero
 *
 * Applications that subscribed get V4L2_EVENT_CTRL for what truly changed. Nothing comes back
 * to the backend as an event, not even a value that a new range has moved: see @value. Read-only
 * controls can be pushed. ENOENT: no such control. ERANGE: an impossible range or menu index.
 * EINVAL: a value or range for a BUTTON. ESTALE as of MAGLENS_IOC_SUBMIT.
 */
struct maglens_push {
	__u64 generation;
	__u32 id;
	__u32 what;
	__s64 minimum;
	__s64 maximum;
	__s64 step;
	__s64 default_value;
	__s64 value;
	__u32 active;
	__u32 reserved[3];
};

/* maglens_input_push.what */
#define MAGLENS_INPUT_STATUS	0x1
#define MAGLENS_INPUT_NAME	0x2

/**
 * struct maglens_input_push - MAGLENS_IOC_INPUT: change an input's status or name
 * @generation:	in: the camera's generation
 * @index:	in: which input
 * @what:	in: MAGLENS_INPUT_*, which fields of @input to apply
 * @input:	in: the new status and name
 */
struct maglens_input_push {
	__u64 generation;
	__u32 index;
	__u32 what;
	struct maglens_input input;
};

/**
 * struct maglens_format_push - MAGLENS_IOC_FORMAT: choose the camera's format from below
 * @generation:	in: the camera's generation
 * @format_index: in: entry of the formats created
 * @format_serial: out: now in force
 * @interval:	in: one of that format's intervals, or 0/0 for its default
 * @reserved:	zero
 *
 * For a backend that restores a choice. EBUSY while any reader has buffers, or is about to. If
 * the fourcc or the size truly changes, subscribed applications get V4L2_EVENT_SOURCE_CHANGE; the
 * interval alone gives none.
 */
struct maglens_format_push {
	__u64 generation;
	__u32 format_index;
	__u32 format_serial;
	struct maglens_fract interval;
	__u64 reserved;
};

/**
 * enum maglens_event_type - maglens_event.type
 * @MAGLENS_EVENT_USAGE: openers, holders or streamers have changed
 * @MAGLENS_EVENT_FORMAT: an application has chosen format or interval
 * @MAGLENS_EVENT_INPUT: an application has chosen an input
 * @MAGLENS_EVENT_CONTROL: an application has set a control
 */
enum maglens_event_type {
	MAGLENS_EVENT_USAGE = 1,
	MAGLENS_EVENT_FORMAT = 2,
	MAGLENS_EVENT_INPUT = 3,
	MAGLENS_EVENT_CONTROL = 4,
};

/**
 * struct maglens_event - what read() on the backend file yields, as many as fit, at least one
 * @type:	enum maglens_event_type
 * @id:		CONTROL: which
 * @value:	CONTROL: the value set
 * @generation:	the camera's, at the time of reading
 * @count:	how often it has happened since it was last read (a BUTTON's presses)
 * @tgid:	CONTROL, INPUT, FORMAT: the process that asked last, as in the first pid namespace
 * @openers:	now, as all fields below, whatever @type is
 * @holders:	readers with buffers
 * @streamers:	readers that stream
 * @format_index: chosen format
 * @format_serial: see struct maglens_state
 * @interval:	chosen interval
 * @input:	chosen input
 * @comm:	CONTROL, INPUT, FORMAT: that process's name, as in /proc/TGID/comm, which a backend
 *		in a sandbox cannot read; ends with a zero
 *
 * There is at most one event pending per type and control: the latest wins and nothing can
 * overflow. Read by several processes, each event reaches one of them. poll() says POLLIN while
 * one is pending, and POLLERR before there is a camera.
 */
struct maglens_event {
	__u32 type;
	__u32 id;
	__s64 value;
	__u64 generation;
	__u32 count;
	__u32 tgid;
	__u32 openers;
	__u32 holders;
	__u32 streamers;
	__u32 format_index;
	__u32 format_serial;
	struct maglens_fract interval;
	__u32 input;
	char comm[16];
};

#define MAGLENS_IOC_MAGIC	'm'
#define MAGLENS_IOC_CREATE	_IOWR(MAGLENS_IOC_MAGIC, 0x80, struct maglens_create)
#define MAGLENS_IOC_SUBMIT	_IOWR(MAGLENS_IOC_MAGIC, 0x81, struct maglens_submit)
#define MAGLENS_IOC_PLACEHOLDER	_IOW(MAGLENS_IOC_MAGIC, 0x82, struct maglens_placeholder)
#define MAGLENS_IOC_STATE	_IOWR(MAGLENS_IOC_MAGIC, 0x83, struct maglens_state)
#define MAGLENS_IOC_ADOPT	_IOWR(MAGLENS_IOC_MAGIC, 0x84, struct maglens_adopt)
#define MAGLENS_IOC_PUSH	_IOWR(MAGLENS_IOC_MAGIC, 0x85, struct maglens_push)
#define MAGLENS_IOC_INPUT	_IOW(MAGLENS_IOC_MAGIC, 0x86, struct maglens_input_push)
#define MAGLENS_IOC_FORMAT	_IOWR(MAGLENS_IOC_MAGIC, 0x87, struct maglens_format_push)

/* The layouts are the ABI: a change of size must not go unnoticed, on any architecture. */
#if defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L
_Static_assert(sizeof(struct maglens_fract) == 8, "ABI");
_Static_assert(sizeof(struct maglens_format) == 112, "ABI");
_Static_assert(sizeof(struct maglens_menu_item) == 32, "ABI");
_Static_assert(sizeof(struct maglens_control) == 104, "ABI");
_Static_assert(sizeof(struct maglens_input) == 48, "ABI");
_Static_assert(sizeof(struct maglens_create) == 240, "ABI");
_Static_assert(sizeof(struct maglens_submit) == 64, "ABI");
_Static_assert(sizeof(struct maglens_placeholder) == 40, "ABI");
_Static_assert(sizeof(struct maglens_counters) == 64, "ABI");
_Static_assert(sizeof(struct maglens_state) == 352, "ABI");
_Static_assert(sizeof(struct maglens_adopt) == 16, "ABI");
_Static_assert(sizeof(struct maglens_push) == 72, "ABI");
_Static_assert(sizeof(struct maglens_input_push) == 64, "ABI");
_Static_assert(sizeof(struct maglens_format_push) == 32, "ABI");
_Static_assert(sizeof(struct maglens_event) == 80, "ABI");
#endif

#endif /* _UAPI_LINUX_MAGLENS_H */
