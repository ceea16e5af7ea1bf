/* Preloaded into a process, it moves the wall clock by as many seconds as a shared file says.
 *
 * The file holds one signed 64-bit number; LOGMESH_TEST_CLOCK names it. All processes that map it
 * jump at the same moment. No other clock is touched, and nothing that waits: what waits for a
 * moment of the wall clock would be seen by its asking for that clock first.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t no_shift = 0;
static const volatile int64_t *shift = &no_shift;
static int (*real_gettime)(clockid_t, struct timespec *);

__attribute__((constructor)) static void map_shift(void)
{
    const char *path = getenv("LOGMESH_TEST_CLOCK");
    int fd = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    real_gettime = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    if (fd >= 0) {
        void *place = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, fd, 0);
        if (place != MAP_FAILED)
            shift = place;
        close(fd);
    }
}

int clock_gettime(clockid_t id, struct timespec *now)
{
    if (real_gettime == NULL)
        map_shift();
    int result = real_gettime(id, now);
    if (result == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
        now->tv_sec += *shift;
    return result;
}

time_t time(time_t *place)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (place != NULL)
        *place = now.tv_sec;
    return now.tv_sec;
}

int gettimeofday(struct timeval *now, void *zone)
{
    struct timespec precise;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}
