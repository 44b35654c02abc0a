/* SPDX-License-Identifier: MIT */
/*
 * Words: texts that many environments have in common, such as "cpython" or the path of an interpreter, each there once
 * and counted. 100,000 environments know ten different words, not a million.
 */
#ifndef VENVD_WORD_H
#define VENVD_WORD_H

/* The word of this text: whoever asked for it drops it again. NULL has none. */
const char *word(const char *text_or_null);
/* Once more, of one that the caller has. */
const char *word_again(const char *word_or_null);
void word_drop(const char *word_or_null);
/* *slot becomes the word of text, and drops what it was. */
void word_set(const char **slot, const char *text_or_null);
#endif
