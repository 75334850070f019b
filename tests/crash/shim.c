/* Faults in a real server process: loaded with LD_PRELOAD, told what to do through a mapped file.
 *
 * Knows: the system calls by which SQLite writes, which of their files are the database's.
 * Does not know: SQLite's formats, why a fault is wanted (shim.py).
 * Spec: POSIX pwrite, fsync, ftruncate, clock_gettime.
 *
 * A power cut takes back what was written and not synced: before each write its place is read, and the
 * copies are dropped when fsync or fdatasync of the file has returned. A torn write does half of itself.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct control { /* shim.py has the same layout */
    int64_t clock_offset_ns; /* added to CLOCK_REALTIME */
    int32_t write_errno;     /* writes and truncations fail with it; 0: none */
    int32_t sync_errno;      /* syncs fail with it; 0: none */
    int32_t tear_in;         /* the n-th write to the log from now is torn, then SIGKILL; 0: none */
    int32_t cut_in;          /* the n-th write or sync from now is a power cut; 0: none */
    int32_t writes;          /* counted here: writes to the database's files */
    int32_t syncs;           /* counted here: their syncs that succeeded */
    int32_t failures;        /* counted here: calls that failed by command */
    int32_t taken_back;      /* counted here: writes that the power cut undid */
};

struct undo {
    struct undo *before;
    dev_t device;
    ino_t inode;
    char path[512]; /* a copy of `fd` would let go of SQLite's locks when it is closed */
    off_t offset, size; /* size: of the file, before the write */
    size_t length;      /* of what was there */
    char content[];
};

static struct control idle, *control = &idle;
static struct undo *undos;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name, result, ...)                                   \
    static result (*real)(__VA_ARGS__);                           \
    if (!real)                                                    \
        real = (result(*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

static ssize_t real_pwrite(int fd, const void *data, size_t length, off_t offset) {
    REAL(pwrite, ssize_t, int, const void *, size_t, off_t);
    return real(fd, data, length, offset);
}

static int real_ftruncate(int fd, off_t size) {
    REAL(ftruncate, int, int, off_t);
    return real(fd, size);
}

__attribute__((constructor)) static void map_control(void) {
    const char *path = getenv("CRASH_SHIM_CONTROL");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *mapped = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (mapped != MAP_FAILED)
        control = mapped;
    close(fd);
}

static int path_of(int fd, char path[512]) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, 511);
    path[length < 0 ? 0 : length] = 0;
    return length > 0;
}

/* 0: not a file of the database; 2: its write-ahead log; 1: another. The index (-shm) is no durable file. */
static int kind(int fd) {
    char path[512];
    if (!path_of(fd, path))
        return 0;
    const char *name = strrchr(path, '/');
    if (!name || strncmp(name, "/gnomon.db", 10) || strstr(name, "-shm"))
        return 0;
    return strcmp(name, "/gnomon.db-wal") ? 1 : 2;
}

static void remember(int fd, size_t length, off_t offset) {
    struct stat file;
    struct undo *undo = malloc(sizeof *undo + length);
    if (!undo || fstat(fd, &file))
        abort();
    ssize_t got = pread(fd, undo->content, length, offset);
    undo->before = undos;
    undo->device = file.st_dev;
    undo->inode = file.st_ino;
    undo->offset = offset;
    undo->size = file.st_size;
    undo->length = got < 0 ? 0 : (size_t)got;
    path_of(fd, undo->path);
    undos = undo;
}

static void forget(int fd) {
    struct stat file;
    if (fstat(fd, &file))
        abort();
    for (struct undo **at = &undos; *at;) {
        struct undo *undo = *at;
        if (undo->device == file.st_dev && undo->inode == file.st_ino) {
            *at = undo->before;
            free(undo);
        } else
            at = &undo->before;
    }
}

static void cut_power(void) {
    for (struct undo *undo = undos; undo; undo = undo->before) {
        int fd = open(undo->path, O_RDWR);
        if (fd < 0)
            continue; /* The file was removed meanwhile. */
        if (real_pwrite(fd, undo->content, undo->length, undo->offset) < 0 || real_ftruncate(fd, undo->size))
            abort();
        control->taken_back++;
        close(fd);
    }
    kill(getpid(), SIGKILL);
    pause();
}

static int is_due(int32_t *count) { return *count > 0 && --*count == 0; }

/* Called with the lock; 0 goes on, else the call has failed. */
static int before_write(int fd, int which, const void *data, size_t length, off_t offset) {
    control->writes++;
    if (control->write_errno) {
        control->failures++;
        errno = control->write_errno;
        return -1;
    }
    if (which == 2 && data && is_due(&control->tear_in)) {
        real_pwrite(fd, data, length / 2, offset);
        kill(getpid(), SIGKILL);
        pause();
    }
    remember(fd, length, offset);
    if (is_due(&control->cut_in))
        cut_power();
    return 0;
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) {
    int which = kind(fd);
    if (!which)
        return real_pwrite(fd, data, length, offset);
    pthread_mutex_lock(&lock);
    ssize_t done = before_write(fd, which, data, length, offset);
    if (!done)
        done = real_pwrite(fd, data, length, offset);
    pthread_mutex_unlock(&lock);
    return done;
}

ssize_t pwrite64(int fd, const void *data, size_t length, off_t offset) {
    return pwrite(fd, data, length, offset);
}

ssize_t write(int fd, const void *data, size_t length) {
    REAL(write, ssize_t, int, const void *, size_t);
    int which = kind(fd);
    if (!which)
        return real(fd, data, length);
    pthread_mutex_lock(&lock);
    ssize_t done = before_write(fd, which, data, length, lseek(fd, 0, SEEK_CUR));
    if (!done)
        done = real(fd, data, length);
    pthread_mutex_unlock(&lock);
    return done;
}

int ftruncate(int fd, off_t size) {
    struct stat file;
    int which = kind(fd);
    if (!which)
        return real_ftruncate(fd, size);
    pthread_mutex_lock(&lock);
    if (fstat(fd, &file))
        abort();
    int done = before_write(fd, which, NULL, file.st_size > size ? (size_t)(file.st_size - size) : 0, size);
    if (!done)
        done = real_ftruncate(fd, size);
    pthread_mutex_unlock(&lock);
    return done;
}

int ftruncate64(int fd, off_t size) { return ftruncate(fd, size); }

static int synced(int fd, int (*real)(int)) {
    if (!kind(fd))
        return real(fd);
    pthread_mutex_lock(&lock);
    int done = -1;
    if (control->sync_errno) {
        control->failures++;
        errno = control->sync_errno;
    } else {
        if (is_due(&control->cut_in))
            cut_power();
        done = real(fd);
        if (!done) {
            control->syncs++;
            forget(fd);
        }
    }
    pthread_mutex_unlock(&lock);
    return done;
}

int fsync(int fd) {
    REAL(fsync, int, int);
    return synced(fd, real);
}

int fdatasync(int fd) {
    REAL(fdatasync, int, int);
    return synced(fd, real);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    REAL(clock_gettime, int, clockid_t, struct timespec *);
    int done = real(clock, now);
    int64_t offset = control->clock_offset_ns;
    if (!done && offset && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t total = now->tv_sec * INT64_C(1000000000) + now->tv_nsec + offset;
        now->tv_sec = total / 1000000000;
        now->tv_nsec = total % 1000000000;
    }
    return done;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec precise;
    (void)zone;
    int done = clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return done;
}

time_t time(time_t *result) {
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    if (result)
        *result = precise.tv_sec;
    return precise.tv_sec;
}
