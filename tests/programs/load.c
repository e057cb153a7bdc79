/* The small programs of the limits' tests in one static file: each uses one thing up and counts, from inside, how far it came.
 * Starts nothing that outlives the container, and opens nothing but what its words name. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MIB (1UL << 20)

static double now(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static double cpu(void) { return now(CLOCK_PROCESS_CPUTIME_ID); }

static int failed(const char *what)
{
    printf("%s %s\n", what, strerrorname_np(errno));
    return 1;
}

static void burn(double seconds)
{
    while (cpu() < seconds)
        for (volatile int i = 0; i < 20000; i++)
            ;
}

/* hog MIB: touches that much, one MiB at a time, and says each one */
static int hog(long wanted)
{
    for (long done = 0; done < wanted; done++) {
        char *page = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (page == MAP_FAILED)
            return failed("mmap");
        memset(page, 1, MIB);
        char line[32];
        int length = snprintf(line, sizeof line, "%ld\n", done + 1);
        if (write(1, line, length) < 0)
            return 1;
    }
    return 0;
}

/* memory_bomb: processes that each touch more and more, until they are killed */
static void memory_bomb(void)
{
    for (int i = 0; i < 8; i++)
        fork();
    for (;;) {
        char *page = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (page != MAP_FAILED)
            memset(page, 1, MIB);
    }
}

/* spin PROCESSES SECONDS: each process burns that much CPU, on whatever processor it may have */
static int spin(long processes, double seconds)
{
    for (long i = 1; i < processes; i++)
        if (fork() == 0)
            break;
    burn(seconds);
    while (wait(NULL) > 0)
        ;
    return 0;
}

/* spin_everywhere SECONDS: as many processes as processors, each on one of its own, whatever affinity was inherited */
static int spin_everywhere(double seconds)
{
    long count = sysconf(_SC_NPROCESSORS_ONLN);
    for (long i = 0; i < count; i++) {
        if (fork())
            continue;
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(i, &one);
        sched_setaffinity(0, sizeof one, &one);
        burn(seconds);
        _exit(0);
    }
    while (wait(NULL) > 0)
        ;
    return 0;
}

/* rate SECONDS [MOMENT]: CPU used per second of time, from that moment of the clock on */
static int rate(double seconds, double moment)
{
    while (now(CLOCK_REALTIME) < moment)
        usleep(1000);
    double begun = now(CLOCK_MONOTONIC), used = cpu();
    while (now(CLOCK_MONOTONIC) - begun < seconds)
        ;
    printf("%f\n", (cpu() - used) / (now(CLOCK_MONOTONIC) - begun));
    return 0;
}

/* affinity: the processors it may use, then those it was really seen on */
static int affinity(void)
{
    cpu_set_t set, seen;
    CPU_ZERO(&seen);
    sched_getaffinity(0, sizeof set, &set);
    while (cpu() < 0.1) {
        CPU_SET(sched_getcpu(), &seen);
        sched_yield();
    }
    for (cpu_set_t *each = &set; each; each = each == &set ? &seen : NULL) {
        for (int i = 0; i < CPU_SETSIZE; i++)
            if (CPU_ISSET(i, each))
                printf("%d ", i);
        printf("\n");
    }
    return 0;
}

static void *sleeper(void *nothing)
{
    pause();
    return nothing;
}

/* tasks process|thread [UID [MOST]]: starts tasks until one fails, and says how many there are then, itself among them */
static int tasks(const char *kind, long uid, long most)
{
    long count = 1;
    if (uid > 0 && (setresgid(uid, uid, uid) || setresuid(uid, uid, uid)))
        return failed("setresuid");
    for (; count < most; count++) {
        pthread_t thread;
        pthread_attr_t small;
        pthread_attr_init(&small);
        pthread_attr_setstacksize(&small, 32768);
        if (*kind == 't' && (errno = pthread_create(&thread, &small, sleeper, NULL)))
            break;
        pid_t pid = *kind == 'p' ? fork() : 1;
        if (pid < 0)
            break;
        if (pid == 0)
            pause();
    }
    printf("%ld %s\n", count, strerrorname_np(errno));
    return 0; /* the others end with the container */
}

/* fill PATH: writes until it cannot, and says how many bytes went in */
static int fill(const char *path)
{
    static char block[65536];
    long total = 0;
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd < 0)
        return failed("open");
    for (ssize_t n; (n = write(fd, block, sizeof block)) > 0;)
        total += n;
    printf("%ld %s\n", total, strerrorname_np(errno));
    return 0;
}

/* direct read|write PATH BYTES: in blocks of 64 KiB around the page cache, and the seconds it took */
static int direct(const char *way, const char *path, long bytes)
{
    int writing = *way == 'w', fd = open(path, (writing ? O_WRONLY : O_RDONLY) | O_DIRECT);
    void *block;
    if (fd < 0 || posix_memalign(&block, 4096, 65536))
        return failed("open");
    memset(block, 1, 65536);
    double begun = now(CLOCK_MONOTONIC);
    for (long done = 0; done < bytes; done += 65536)
        if ((writing ? write(fd, block, 65536) : read(fd, block, 65536)) != 65536)
            return failed("direct");
    printf("%f\n", now(CLOCK_MONOTONIC) - begun);
    return 0;
}

/* flood FD BYTES */
static int flood(int fd, long bytes)
{
    static char block[65536];
    memset(block, 'x', sizeof block);
    for (long n; bytes > 0; bytes -= n)
        if ((n = write(fd, block, bytes < (long)sizeof block ? bytes : (long)sizeof block)) < 0)
            return failed("write");
    return 0;
}

/* child_hog MIB: a child runs out of memory; its parent says so, stays for a while, and ends well */
static int child_hog(long wanted, double stay)
{
    int status;
    if (fork() == 0) {
        freopen("/dev/null", "w", stdout);
        _exit(hog(wanted));
    }
    wait(&status);
    printf("child %d\n", WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status));
    fflush(stdout);
    usleep(stay * 1e6);
    return 7;
}

/* orphans COUNT: processes that left their session and their parent */
static int orphans(long count)
{
    for (long i = 0; i < count; i++)
        if (fork() == 0) {
            setsid();
            if (fork() == 0)
                pause();
            _exit(0);
        }
    while (wait(NULL) > 0)
        ;
    return 0;
}

/* forks, each of which forks: until it is killed */
static void fork_bomb(void)
{
    for (;;)
        fork();
}

/* ---- one word per resource of getrlimit(2): goes up to the limit and says what the kernel answered ---- */

static long deep(long left)
{
    volatile char frame[4096];
    frame[0] = left;
    return left ? deep(left - 1) + frame[0] : 0;
}

static int said(const char *text)
{
    printf("%s\n", text);
    return 0;
}

static int limited(const char *name)
{
    size_t size = 64 * MIB;
    if (!strcmp(name, "cpu")) {
        burn(60);
    } else if (!strcmp(name, "fsize")) {
        return fill("/tmp/fsize");
    } else if (!strcmp(name, "core")) {
        abort();
    } else if (!strcmp(name, "nofile")) {
        long count = 0;
        while (dup(0) >= 0)
            count++;
        printf("%ld %s\n", count + 3, strerrorname_np(errno));
        return 0;
    } else if (!strcmp(name, "as") || !strcmp(name, "data")) {
        void *got = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        return got == MAP_FAILED ? failed("mmap") : said("mmap");
    } else if (!strcmp(name, "stack")) {
        return deep(size / 8192) ? said("deep") : said("deep");
    } else if (!strcmp(name, "memlock")) {
        void *got = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        return mlock(got, size) ? failed("mlock") : said("mlock");
    } else if (!strcmp(name, "nproc")) {
        return tasks("process", 1000, 100000);
    } else if (!strcmp(name, "sigpending")) {
        sigset_t all;
        sigfillset(&all);
        sigprocmask(SIG_BLOCK, &all, NULL);
        long count = 0;
        while (sigqueue(getpid(), SIGRTMIN, (union sigval){0}) == 0)
            count++;
        printf("%ld %s\n", count, strerrorname_np(errno));
        return 0;
    } else if (!strcmp(name, "msgqueue")) {
        struct mq_attr attributes = {.mq_maxmsg = 10, .mq_msgsize = 8192};
        return mq_open("/queue", O_RDWR | O_CREAT, 0600, &attributes) < 0 ? failed("mq_open") : said("mq_open");
    } else if (!strcmp(name, "nice")) {
        setpriority(PRIO_PROCESS, 0, 5);
        if (setpriority(PRIO_PROCESS, 0, 2))
            return failed("setpriority");
        return setpriority(PRIO_PROCESS, 0, 0) ? failed("setpriority") : said("setpriority");
    } else if (!strcmp(name, "rtprio")) {
        struct sched_param priority = {.sched_priority = 1};
        return sched_setscheduler(0, SCHED_FIFO, &priority) ? failed("sched_setscheduler") : said("sched_setscheduler");
    } else { /* rss, locks, rttime: what getrlimit says is all that there is to see */
        struct rlimit limit;
        int resource = !strcmp(name, "rss") ? RLIMIT_RSS : !strcmp(name, "locks") ? RLIMIT_LOCKS : RLIMIT_RTTIME;
        getrlimit(resource, &limit);
        printf("%ld %ld\n", (long)limit.rlim_cur, (long)limit.rlim_max);
    }
    return 0;
}

/* Takes one connection to a port of 127.0.0.1 and sends back what it brings. */
static int serve(int port)
{
    struct sockaddr_in place = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int listener = socket(AF_INET, SOCK_STREAM, 0), one = -1;
    char bytes[4096];
    ssize_t came;
    if (bind(listener, (struct sockaddr *)&place, sizeof place) || listen(listener, 1)) return failed("listen");
    printf("listening\n");
    if ((one = accept(listener, NULL, NULL)) < 0) return failed("accept");
    while ((came = read(one, bytes, sizeof bytes)) > 0)
        if (write(one, bytes, came) != came) return failed("write");
    return came ? failed("read") : 0;
}

int main(int count, char **words)
{
    const char *what = count > 1 ? words[1] : "";
    const char *first = count > 2 ? words[2] : "0", *second = count > 3 ? words[3] : "0";
    const char *third = count > 4 ? words[4] : "0";
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (!strcmp(what, "hog")) return hog(atol(first));
    if (!strcmp(what, "hold")) return hog(atol(first)) || usleep(atof(second) * 1e6);
    if (!strcmp(what, "memory_bomb")) memory_bomb();
    if (!strcmp(what, "spin")) return spin(atol(first), atof(second));
    if (!strcmp(what, "spin_everywhere")) return spin_everywhere(atof(first));
    if (!strcmp(what, "rate")) return rate(atof(first), atof(second));
    if (!strcmp(what, "affinity")) return affinity();
    if (!strcmp(what, "tasks")) return tasks(first, atol(second), *third == '0' ? 100000 : atol(third));
    if (!strcmp(what, "fill")) return fill(first);
    if (!strcmp(what, "direct")) return direct(first, second, atol(third));
    if (!strcmp(what, "flood")) return flood(atoi(first), atol(second));
    if (!strcmp(what, "child_hog")) return child_hog(atol(first), atof(second));
    if (!strcmp(what, "orphans")) return orphans(atol(first));
    if (!strcmp(what, "sleep")) return usleep(atof(first) * 1e6);
    if (!strcmp(what, "exit")) return atoi(first);
    if (!strcmp(what, "fork_bomb")) fork_bomb();
    if (!strcmp(what, "abort")) abort();
    if (!strcmp(what, "segv")) return *(volatile int *)0;
    if (!strcmp(what, "kill9")) return kill(getpid(), SIGKILL);
    if (!strcmp(what, "limited")) return limited(first);
    if (!strcmp(what, "serve")) return serve(atoi(first));
    fprintf(stderr, "load: no word %s\n", what);
    return 64;
}
