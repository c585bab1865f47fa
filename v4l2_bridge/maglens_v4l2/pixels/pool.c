/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Workers sleep on a condition; a round number tells them of new work. */
#include "pool.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

struct worker {
	struct ml_pool *pool;
	pthread_t thread;
	int k;
};

struct ml_pool {
	pthread_mutex_t lock;
	pthread_cond_t begin, done;
	unsigned long round;
	int started, busy;
	bool leave;
	void (*work)(void *context, int k);
	void *context;
	struct worker worker[];
};

static void *serve(void *argument)
{
	struct worker *self = argument;
	struct ml_pool *pool = self->pool;
	unsigned long seen = 0;

	pthread_mutex_lock(&pool->lock);
	for (;;) {
		while (pool->round == seen && !pool->leave)
			pthread_cond_wait(&pool->begin, &pool->lock);
		if (pool->leave)
			break;
		seen = pool->round;
		pthread_mutex_unlock(&pool->lock);
		pool->work(pool->context, self->k);
		pthread_mutex_lock(&pool->lock);
		if (--pool->busy == 0)
			pthread_cond_signal(&pool->done);
	}
	pthread_mutex_unlock(&pool->lock);
	return NULL;
}

struct ml_pool *ml_pool_new(int threads)
{
	struct ml_pool *pool = calloc(1, sizeof(*pool) + (size_t)threads * sizeof(pool->worker[0]));

	if (!pool)
		return NULL;
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->begin, NULL);
	pthread_cond_init(&pool->done, NULL);
	for (int k = 1; k < threads; k++) {
		struct worker *w = &pool->worker[k - 1];

		*w = (struct worker){ .pool = pool, .k = k };
		if (pthread_create(&w->thread, NULL, serve, w)) {
			ml_pool_free(pool);
			return NULL;
		}
		pool->started++;
	}
	return pool;
}

void ml_pool_free(struct ml_pool *pool)
{
	if (!pool)
		return;
	pthread_mutex_lock(&pool->lock);
	pool->leave = true;
	pthread_cond_broadcast(&pool->begin);
	pthread_mutex_unlock(&pool->lock);
	for (int k = 0; k < pool->started; k++)
		pthread_join(pool->worker[k].thread, NULL);
	pthread_cond_destroy(&pool->begin);
	pthread_cond_destroy(&pool->done);
	pthread_mutex_destroy(&pool->lock);
	free(pool);
}

void ml_pool_run(struct ml_pool *pool, void (*work)(void *context, int k), void *context)
{
	pthread_mutex_lock(&pool->lock);
	pool->work = work;
	pool->context = context;
	pool->busy = pool->started;
	pool->round++;
	pthread_cond_broadcast(&pool->begin);
	pthread_mutex_unlock(&pool->lock);
	work(context, 0);
	pthread_mutex_lock(&pool->lock);
	while (pool->busy)
		pthread_cond_wait(&pool->done, &pool->lock);
	pthread_mutex_unlock(&pool->lock);
}
