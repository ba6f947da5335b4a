/* page_html: the text of agent/page.html, made into C by cmake/embed.cmake at build time. */
#ifndef PENSTOCK_AGENT_PAGE_HTML_H
#define PENSTOCK_AGENT_PAGE_HTML_H

#include <stddef.h>

extern const unsigned char page_html[];
extern const size_t page_html_len;

#endif
