// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Prints the ABI of maglens as JSON: every struct's size and its fields' offsets and sizes, every
 * ioctl's number, every constant. For bindings in other languages to be checked against.
 */
#include <stddef.h>
#include <stdio.h>

#include "maglens.h"

#define STRUCT(name)                                                              \
	printf("%s\n    \"%s\": {\"size\": %zu, \"fields\": {", comma, #name,      \
	       sizeof(struct name));                                               \
	comma = ","; between = ""
#define FIELD(name, field)                                                        \
	printf("%s\"%s\": [%zu, %zu]", between, #field, offsetof(struct name, field), \
	       sizeof(((struct name *)0)->field));                                 \
	between = ", "
#define END printf("}}")
#define NUMBER(name)                                                              \
	printf("%s\n    \"%s\": %llu", comma, #name, (unsigned long long)(name));  \
	comma = ","

int main(void)
{
	const char *comma = "", *between;

	printf("{\n  \"structs\": {");
	STRUCT(maglens_fract);
	FIELD(maglens_fract, numerator);
	FIELD(maglens_fract, denominator);
	END;
	STRUCT(maglens_format);
	FIELD(maglens_format, fourcc);
	FIELD(maglens_format, width);
	FIELD(maglens_format, height);
	FIELD(maglens_format, bytesperline);
	FIELD(maglens_format, sizeimage);
	FIELD(maglens_format, colorspace);
	FIELD(maglens_format, ycbcr_enc);
	FIELD(maglens_format, quantization);
	FIELD(maglens_format, xfer_func);
	FIELD(maglens_format, n_intervals);
	FIELD(maglens_format, reserved);
	FIELD(maglens_format, intervals);
	END;
	STRUCT(maglens_menu_item);
	FIELD(maglens_menu_item, name);
	FIELD(maglens_menu_item, value);
	END;
	STRUCT(maglens_control);
	FIELD(maglens_control, id);
	FIELD(maglens_control, type);
	FIELD(maglens_control, flags);
	FIELD(maglens_control, n_menu);
	FIELD(maglens_control, minimum);
	FIELD(maglens_control, maximum);
	FIELD(maglens_control, step);
	FIELD(maglens_control, default_value);
	FIELD(maglens_control, menu_skip_mask);
	FIELD(maglens_control, menu);
	FIELD(maglens_control, value);
	FIELD(maglens_control, name);
	END;
	STRUCT(maglens_input);
	FIELD(maglens_input, name);
	FIELD(maglens_input, status);
	FIELD(maglens_input, reserved);
	END;
	STRUCT(maglens_create);
	FIELD(maglens_create, abi_version);
	FIELD(maglens_create, flags);
	FIELD(maglens_create, card);
	FIELD(maglens_create, bus_info);
	FIELD(maglens_create, camera_id);
	FIELD(maglens_create, n_slots);
	FIELD(maglens_create, slot_slack);
	FIELD(maglens_create, n_formats);
	FIELD(maglens_create, n_controls);
	FIELD(maglens_create, n_inputs);
	FIELD(maglens_create, hold_ms);
	FIELD(maglens_create, video_nr);
	FIELD(maglens_create, slot_size);
	FIELD(maglens_create, formats);
	FIELD(maglens_create, controls);
	FIELD(maglens_create, inputs);
	FIELD(maglens_create, ring_size);
	FIELD(maglens_create, generation);
	FIELD(maglens_create, reserved);
	END;
	STRUCT(maglens_submit);
	FIELD(maglens_submit, flags);
	FIELD(maglens_submit, slot);
	FIELD(maglens_submit, address);
	FIELD(maglens_submit, bytesused);
	FIELD(maglens_submit, format_serial);
	FIELD(maglens_submit, timestamp_ns);
	FIELD(maglens_submit, generation);
	FIELD(maglens_submit, delivered);
	FIELD(maglens_submit, dropped);
	FIELD(maglens_submit, filled);
	FIELD(maglens_submit, reserved);
	END;
	STRUCT(maglens_placeholder);
	FIELD(maglens_placeholder, generation);
	FIELD(maglens_placeholder, address);
	FIELD(maglens_placeholder, bytesused);
	FIELD(maglens_placeholder, format_serial);
	FIELD(maglens_placeholder, reserved);
	END;
	STRUCT(maglens_counters);
	FIELD(maglens_counters, submitted);
	FIELD(maglens_counters, delivered);
	FIELD(maglens_counters, dropped);
	FIELD(maglens_counters, unwatched);
	FIELD(maglens_counters, stale);
	FIELD(maglens_counters, mismatched);
	FIELD(maglens_counters, filled);
	FIELD(maglens_counters, adoptions);
	END;
	STRUCT(maglens_state);
	FIELD(maglens_state, abi_version);
	FIELD(maglens_state, flags);
	FIELD(maglens_state, card);
	FIELD(maglens_state, bus_info);
	FIELD(maglens_state, camera_id);
	FIELD(maglens_state, n_slots);
	FIELD(maglens_state, slot_size);
	FIELD(maglens_state, slot_slack);
	FIELD(maglens_state, n_formats);
	FIELD(maglens_state, n_controls);
	FIELD(maglens_state, n_inputs);
	FIELD(maglens_state, hold_ms);
	FIELD(maglens_state, video_nr);
	FIELD(maglens_state, formats);
	FIELD(maglens_state, controls);
	FIELD(maglens_state, inputs);
	FIELD(maglens_state, ring_size);
	FIELD(maglens_state, generation);
	FIELD(maglens_state, format_index);
	FIELD(maglens_state, format_serial);
	FIELD(maglens_state, interval);
	FIELD(maglens_state, input);
	FIELD(maglens_state, openers);
	FIELD(maglens_state, holders);
	FIELD(maglens_state, streamers);
	FIELD(maglens_state, held_slot);
	FIELD(maglens_state, placeholder);
	FIELD(maglens_state, last_timestamp_ns);
	FIELD(maglens_state, counters);
	FIELD(maglens_state, reserved);
	END;
	STRUCT(maglens_adopt);
	FIELD(maglens_adopt, abi_version);
	FIELD(maglens_adopt, reserved);
	FIELD(maglens_adopt, generation);
	END;
	STRUCT(maglens_push);
	FIELD(maglens_push, generation);
	FIELD(maglens_push, id);
	FIELD(maglens_push, what);
	FIELD(maglens_push, minimum);
	FIELD(maglens_push, maximum);
	FIELD(maglens_push, step);
	FIELD(maglens_push, default_value);
	FIELD(maglens_push, value);
	FIELD(maglens_push, active);
	FIELD(maglens_push, reserved);
	END;
	STRUCT(maglens_input_push);
	FIELD(maglens_input_push, generation);
	FIELD(maglens_input_push, index);
	FIELD(maglens_input_push, what);
	FIELD(maglens_input_push, input);
	END;
	STRUCT(maglens_format_push);
	FIELD(maglens_format_push, generation);
	FIELD(maglens_format_push, format_index);
	FIELD(maglens_format_push, format_serial);
	FIELD(maglens_format_push, interval);
	FIELD(maglens_format_push, reserved);
	END;
	STRUCT(maglens_event);
	FIELD(maglens_event, type);
	FIELD(maglens_event, id);
	FIELD(maglens_event, value);
	FIELD(maglens_event, generation);
	FIELD(maglens_event, count);
	FIELD(maglens_event, tgid);
	FIELD(maglens_event, openers);
	FIELD(maglens_event, holders);
	FIELD(maglens_event, streamers);
	FIELD(maglens_event, format_index);
	FIELD(maglens_event, format_serial);
	FIELD(maglens_event, interval);
	FIELD(maglens_event, input);
	FIELD(maglens_event, comm);
	END;
	printf("\n  },\n  \"ioctls\": {");
	comma = "";
	NUMBER(MAGLENS_IOC_CREATE);
	NUMBER(MAGLENS_IOC_SUBMIT);
	NUMBER(MAGLENS_IOC_PLACEHOLDER);
	NUMBER(MAGLENS_IOC_STATE);
	NUMBER(MAGLENS_IOC_ADOPT);
	NUMBER(MAGLENS_IOC_PUSH);
	NUMBER(MAGLENS_IOC_INPUT);
	NUMBER(MAGLENS_IOC_FORMAT);
	printf("\n  },\n  \"constants\": {");
	comma = "";
	NUMBER(MAGLENS_ABI_VERSION);
	NUMBER(MAGLENS_MAX_FORMATS);
	NUMBER(MAGLENS_MAX_INTERVALS);
	NUMBER(MAGLENS_MAX_CONTROLS);
	NUMBER(MAGLENS_MAX_MENU);
	NUMBER(MAGLENS_MAX_INPUTS);
	NUMBER(MAGLENS_MIN_SLOTS);
	NUMBER(MAGLENS_MAX_SLOTS);
	NUMBER(MAGLENS_MAX_DIMENSION);
	NUMBER(MAGLENS_MAX_SIZEIMAGE);
	NUMBER(MAGLENS_MAX_SLACK);
	NUMBER(MAGLENS_MAX_RING);
	NUMBER(MAGLENS_MIN_INTERVAL_US);
	NUMBER(MAGLENS_MAX_INTERVAL_US);
	NUMBER(MAGLENS_MAX_HOLD_MS);
	NUMBER(MAGLENS_MAX_VIDEO_NR);
	NUMBER(MAGLENS_FLAG_EXCLUSIVE);
	NUMBER(MAGLENS_SUBMIT_ADDRESS);
	NUMBER(MAGLENS_NO_SLOT);
	NUMBER(MAGLENS_PUSH_VALUE);
	NUMBER(MAGLENS_PUSH_RANGE);
	NUMBER(MAGLENS_PUSH_DEFAULT);
	NUMBER(MAGLENS_PUSH_ACTIVE);
	NUMBER(MAGLENS_INPUT_STATUS);
	NUMBER(MAGLENS_INPUT_NAME);
	NUMBER(MAGLENS_EVENT_USAGE);
	NUMBER(MAGLENS_EVENT_FORMAT);
	NUMBER(MAGLENS_EVENT_INPUT);
	NUMBER(MAGLENS_EVENT_CONTROL);
	printf("\n  }\n}\n");
	return 0;
}
