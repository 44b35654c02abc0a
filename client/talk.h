/* SPDX-License-Identifier: MIT */
/* Everything that venvctl writes and asks: data on stdout, talk on stderr. */
#ifndef VENVCTL_TALK_H
#define VENVCTL_TALK_H
#include <stdbool.h>
#include "util.h"

/* Colours, as SGR numbers; NULL-safe to mix with plain text. */
#define TALK_BOLD "1"
#define TALK_RED "31"
#define TALK_GREEN "32"
#define TALK_YELLOW "33"
#define TALK_DIM "2"

bool talk_terminal(int fd);             /* remembered after the first question */
bool talk_color(int fd);                /* by --color, NO_COLOR, TERM and the terminal */

/* One line on stderr. What is not constant is made terminal-safe here. */
void talk_error(const char *fmt, ...) PRINTF_LIKE(1, 2);        /* error: ... */
void talk_hint(const char *fmt, ...) PRINTF_LIKE(1, 2);         /* hint: ... */
void talk_say(const char *fmt, ...) PRINTF_LIKE(1, 2);          /* nothing with -q */
/* Each line of text, indented by two, on stderr. */
void talk_indented(const char *text);

/* A line on a terminal that the next one replaces; NULL takes it away. Does nothing elsewhere. */
void talk_progress(const char *text);

/* Whether a question can be asked at all: a terminal on both sides, no --no-input. */
bool talk_can_ask(void);
/* Asks "QUESTION [y/N] "; true only for a yes. */
bool talk_ask(const char *question);

/* Writes text to stdout and empties it. Of what comes from others nothing but text reaches a terminal. A reader that has gone ends the program without a word,
 * another error with a message. */
void talk_out(struct text *);
/* The same of JSON, which is JSON on a terminal, too. */
void talk_json(struct text *);

/* A command of ours among words, with the --root and --socket that this one was given: a line that is pasted must
 * not meet another root, nor another daemon. Owned. */
char *talk_command(const char *text);

/* word as a shell takes it back: bare if it is harmless, else in single quotes. Owned. */
char *talk_quote(const char *word);
#endif
