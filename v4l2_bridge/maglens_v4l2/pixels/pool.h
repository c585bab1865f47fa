/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A few threads that do one thing together: created once, woken for each frame. */
#ifndef ML_POOL_H
#define ML_POOL_H

struct ml_pool;

/* @threads in all, the caller's own among them; NULL when they cannot be had. */
struct ml_pool *ml_pool_new(int threads);
void ml_pool_free(struct ml_pool *pool);

/* Calls work(context, k) for every k below @threads, each on a thread of its own, and returns when all are done. */
void ml_pool_run(struct ml_pool *pool, void (*work)(void *context, int k), void *context);

#endif
