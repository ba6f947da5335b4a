/* attribute: what CloudEvents 1.0 lets a context attribute be called and hold (spec.md, "Type System" and
 * "Naming Conventions"; the documents under extensions/ for the well-known ones). Shared by the readers of
 * all forms. */
#ifndef PENSTOCK_EVENT_ATTRIBUTE_H
#define PENSTOCK_EVENT_ATTRIBUTE_H

#include "lib/event/event.h"

/* [a-z0-9]+, and not "data". */
bool attribute_name_ok(struct span name);

/* What is wrong with this text as a String attribute, or NULL: control characters, noncharacters, over
 * EVENT_ATTRIBUTE_MAX. The text must be valid UTF-8. */
const char *attribute_text_fault(struct span text);

/* What is wrong with it as a URI-reference (or as a URI with a scheme), or NULL. Bytes outside ASCII pass. */
const char *attribute_uri_fault(struct span text, bool absolute);

/* What is wrong with an extension's value where its name is a known one, or NULL. */
const char *attribute_extension_fault(const struct event_ext *ext);

/* Base64 text of RFC 4648 section 4, with its padding. */
bool attribute_base64_ok(struct span text);

/* Is data of this media type JSON? Absent: yes. */
bool attribute_type_is_json(struct span datacontenttype);
/* Is it text that a JSON string can hold? */
bool attribute_type_is_text(struct span datacontenttype);
/* type "/" subtype, maybe with parameters. */
bool attribute_type_ok(struct span datacontenttype);

#endif
