/* Runs inside a container and prints, as one JSON object, what it sees there. Judges nothing and changes nothing.
 *
 * Words: path=/x looks at one more path, open=FD:NAME opens NAME below a descriptor, call=NR,ARG,... makes one system
 * call, syscalls makes each of 0 to 469 with arguments of all ones, sleep=SECONDS waits after the report.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#define CALLS 470
#define NOT_BACK INT64_MIN

/* ---- JSON: `comma` is what the next value needs before it ---- */

static const char *comma = "";

static void text(const char *bytes) {
    putchar('"');
    for (; *bytes; bytes++) {
        unsigned char c = (unsigned char)*bytes;
        if (c == '"' || c == '\\')
            printf("\\%c", c);
        else if (c < 0x20 || c >= 0x7f) /* latin-1: each byte is one character, whatever it was */
            printf("\\u%04x", c);
        else
            putchar(c);
    }
    putchar('"');
}

static void key(const char *name) {
    printf("%s", comma);
    if (name) {
        text(name);
        putchar(':');
    }
    comma = ",";
}

static void begin(const char *name, char bracket) {
    key(name);
    putchar(bracket);
    comma = "";
}

static void end(char bracket) {
    putchar(bracket);
    comma = ",";
}

static void number(const char *name, long long value) {
    key(name);
    printf("%lld", value);
}

static void word(const char *name, const char *value) {
    key(name);
    if (value)
        text(value);
    else
        printf("null");
}

static void lines(const char *name, char *const *words) {
    begin(name, '[');
    for (; *words; words++)
        word(NULL, *words);
    end(']');
}

/* ---- files ---- */

static char *slurp(const char *path) {
    static char buffer[1 << 18];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    size_t length = 0;
    ssize_t got;
    while (length < sizeof buffer - 1 && (got = read(fd, buffer + length, sizeof buffer - 1 - length)) > 0)
        length += (size_t)got;
    close(fd);
    buffer[length] = 0;
    return buffer;
}

static char *stripped(char *content) {
    if (content)
        content[strcspn(content, "\n")] = 0;
    return content;
}

static void file_lines(const char *name, const char *path) {
    begin(name, '[');
    char *save, *content = slurp(path);
    for (char *line = content ? strtok_r(content, "\n", &save) : NULL; line; line = strtok_r(NULL, "\n", &save))
        word(NULL, line);
    end(']');
}

static const char *kind_of(mode_t mode) {
    return S_ISREG(mode) ? "file" : S_ISDIR(mode) ? "directory" : S_ISCHR(mode) ? "character" : S_ISBLK(mode) ? "block"
         : S_ISFIFO(mode) ? "pipe" : S_ISSOCK(mode) ? "socket" : S_ISLNK(mode) ? "link" : "other";
}

static int try_open(const char *path, int flags) {
    int fd = open(path, flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return errno;
    close(fd);
    return 0;
}

static int entries(const char *path) {
    DIR *directory = opendir(path);
    int count = 0;
    if (!directory)
        return -1;
    while (readdir(directory))
        count++;
    closedir(directory);
    return count - 2;
}

static int try_create(const char *directory) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/.probe", directory);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return errno;
    close(fd);
    unlink(path);
    return 0;
}

/* What a path is, and with which error it can be read and written (0: it can). */
static void look(const char *path) {
    struct stat seen;
    begin(path, '{');
    if (lstat(path, &seen)) {
        number("missing", errno);
        end('}');
        return;
    }
    word("kind", kind_of(seen.st_mode));
    number("mode", seen.st_mode & 07777);
    number("uid", seen.st_uid);
    number("gid", seen.st_gid);
    number("size", seen.st_size);
    if (S_ISCHR(seen.st_mode) || S_ISBLK(seen.st_mode)) {
        number("major", major(seen.st_rdev));
        number("minor", minor(seen.st_rdev));
    }
    struct statfs fs;
    if (!statfs(path, &fs)) {
        number("flags", fs.f_flags);
        number("fs_type", fs.f_type);
        number("fs_size", (long long)fs.f_blocks * fs.f_bsize);
    }
    if (S_ISDIR(seen.st_mode)) {
        number("entries", entries(path));
        number("write", try_create(path));
    } else {
        number("read", try_open(path, O_RDONLY));
        number("write", try_open(path, O_WRONLY));
        if (S_ISREG(seen.st_mode)) {
            char *content = slurp(path);
            if (content)
                content[2000] = 0;
            word("content", content);
        }
    }
    end('}');
}

/* ---- who and where ---- */

static void ids(void) {
    unsigned r, e, s;
    getresuid(&r, &e, &s);
    printf("%s\"uid\":[%u,%u,%u]", comma, r, e, s);
    comma = ",";
    getresgid(&r, &e, &s);
    printf(",\"gid\":[%u,%u,%u]", r, e, s);
    gid_t *groups = calloc(65536, sizeof *groups);
    int count = getgroups(65536, groups);
    begin("groups", '[');
    for (int i = 0; i < count; i++)
        number(NULL, groups[i]);
    end(']');
    free(groups);
    number("pid", getpid());
    number("ppid", getppid());
    number("sid", getsid(0));
    number("pgid", getpgid(0));
    mode_t mask = umask(0);
    umask(mask);
    number("umask", mask);
    char here[PATH_MAX];
    word("cwd", getcwd(here, sizeof here));
    struct utsname names;
    uname(&names);
    word("hostname", names.nodename);
    word("domainname", names.domainname);
}

/* The lines of /proc/self/status by name: Cap*, Seccomp, NoNewPrivs, Sig*, NSpid, ... */
static void status(void) {
    begin("status", '{');
    char *save, *content = slurp("/proc/self/status");
    for (char *line = content ? strtok_r(content, "\n", &save) : NULL; line; line = strtok_r(NULL, "\n", &save)) {
        char *value = strstr(line, ":\t");
        if (!value)
            continue;
        *value = 0;
        word(line, value + 2);
    }
    end('}');
    number("no_new_privs", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
    number("seccomp", prctl(PR_GET_SECCOMP, 0, 0, 0, 0));
    number("securebits", prctl(PR_GET_SECUREBITS, 0, 0, 0, 0));
    number("dumpable", prctl(PR_GET_DUMPABLE, 0, 0, 0, 0));
}

static void namespaces(void) {
    static const char *const names[] = {"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"};
    begin("namespaces", '{');
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[64], target[64] = "";
        snprintf(path, sizeof path, "/proc/self/ns/%s", names[i]);
        if (readlink(path, target, sizeof target - 1) > 0)
            number(names[i], atoll(strchr(target, '[') + 1));
    }
    end('}');
    file_lines("uid_map", "/proc/self/uid_map");
    file_lines("gid_map", "/proc/self/gid_map");
    file_lines("mountinfo", "/proc/self/mountinfo");
    file_lines("cgroup", "/proc/self/cgroup");
}

static void descriptors(void) {
    begin("fds", '{');
    DIR *directory = opendir("/proc/self/fd");
    for (struct dirent *entry; directory && (entry = readdir(directory));) {
        char target[PATH_MAX] = "";
        if (entry->d_name[0] == '.' || atoi(entry->d_name) == dirfd(directory))
            continue;
        if (readlinkat(dirfd(directory), entry->d_name, target, sizeof target - 1) > 0)
            word(entry->d_name, target);
    }
    if (directory)
        closedir(directory);
    end('}');
    begin("streams", '[');
    for (int fd = 0; fd < 3; fd++) {
        struct stat seen;
        word(NULL, fstat(fd, &seen) ? "closed" : isatty(fd) ? "terminal" : kind_of(seen.st_mode));
    }
    end(']');
    number("terminal", try_open("/dev/tty", O_RDWR));
}

static void limits(void) {
    static const char *const names[] = {"cpu",    "fsize", "data",       "stack",    "core", "rss",    "nproc",  "nofile",
                                        "memlock", "as",   "locks",      "sigpending", "msgqueue", "nice", "rtprio", "rttime"};
    begin("rlimits", '{');
    for (int i = 0; i < 16; i++) {
        struct rlimit limit;
        getrlimit(i, &limit);
        begin(names[i], '[');
        number(NULL, limit.rlim_cur == RLIM_INFINITY ? -1 : (long long)limit.rlim_cur);
        number(NULL, limit.rlim_max == RLIM_INFINITY ? -1 : (long long)limit.rlim_max);
        end(']');
    }
    end('}');
    cpu_set_t cpus;
    sched_getaffinity(0, sizeof cpus, &cpus);
    begin("cpus", '[');
    for (int i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &cpus))
            number(NULL, i);
    end(']');
    word("oom_score_adj", stripped(slurp("/proc/self/oom_score_adj")));
    long keyring = syscall(SYS_keyctl, 0 /* GET_KEYRING_ID */, -3 /* the session's */, 0);
    begin("keyring", '[');
    number(NULL, keyring);
    number(NULL, keyring < 0 ? errno : 0);
    end(']');
}

static void devices(void) {
    begin("devices", '{');
    DIR *directory = opendir("/dev");
    for (struct dirent *entry; directory && (entry = readdir(directory));) {
        struct stat seen;
        char path[PATH_MAX];
        snprintf(path, sizeof path, "/dev/%s", entry->d_name);
        if (lstat(path, &seen) || !(S_ISCHR(seen.st_mode) || S_ISBLK(seen.st_mode)))
            continue;
        begin(entry->d_name, '{');
        number("major", major(seen.st_rdev));
        number("minor", minor(seen.st_rdev));
        number("mode", seen.st_mode & 0777);
        number("open", try_open(path, O_RDWR));
        end('}');
    }
    if (directory)
        closedir(directory);
    end('}');
    number("mknod", mknod("/tmp/.probe-device", S_IFCHR | 0600, makedev(1, 3)) ? errno : 0);
    unlink("/tmp/.probe-device");
}

static void sysctls(void) {
    static const char *const names[] = {"net/ipv4/ip_unprivileged_port_start", "net/ipv4/ping_group_range",
                                        "kernel/core_pattern", "kernel/hostname", "kernel/shmmax", "vm/overcommit_memory"};
    begin("sysctls", '{');
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[PATH_MAX];
        snprintf(path, sizeof path, "/proc/sys/%s", names[i]);
        begin(names[i], '[');
        word(NULL, stripped(slurp(path)));
        number(NULL, try_open(path, O_WRONLY));
        end(']');
    }
    end('}');
}

static void interfaces(void) {
    int socket_fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct if_nameindex *all = if_nameindex();
    begin("interfaces", '{');
    for (struct if_nameindex *one = all; one && one->if_index; one++) {
        struct ifreq request = {0};
        strncpy(request.ifr_name, one->if_name, IFNAMSIZ - 1);
        key(one->if_name);
        printf("%s", ioctl(socket_fd, SIOCGIFFLAGS, &request) ? "null" : request.ifr_flags & IFF_UP ? "true" : "false");
    }
    end('}');
    if (all)
        if_freenameindex(all);
    close(socket_fd);
}

static void paths(char **words) {
    static const char *const standard[] = {
        "/", "/tmp", "/run", "/dev", "/dev/shm", "/dev/pts", "/dev/mqueue", "/dev/console", "/proc", "/proc/acpi", "/proc/asound",
        "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi",
        "/proc/timer_list", "/proc/timer_stats", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
        "/proc/1/environ", "/proc/1/mem", "/sys", "/sys/firmware", "/sys/fs/cgroup", "/sys/fs/selinux",
        "/sys/devices/virtual/powercap", "/sys/devices/system/cpu/cpu0/thermal_throttle", "/sys/kernel/mm"};
    begin("paths", '{');
    for (size_t i = 0; i < sizeof standard / sizeof *standard; i++)
        look(standard[i]);
    for (; *words; words++)
        if (!strncmp(*words, "path=", 5))
            look(*words + 5);
    end('}');
}

/* ---- system calls ---- */

/* Without libc's frame: a vfork comes back twice on one stack. */
static long raw_call(long nr, const long *a) {
#if defined(__x86_64__)
    register long r10 __asm__("r10") = a[3], r8 __asm__("r8") = a[4], r9 __asm__("r9") = a[5];
    long result = nr;
    __asm__ volatile("syscall" : "+a"(result) : "D"(a[0]), "S"(a[1]), "d"(a[2]), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
#elif defined(__aarch64__)
    register long x8 __asm__("x8") = nr, x0 __asm__("x0") = a[0], x1 __asm__("x1") = a[1], x2 __asm__("x2") = a[2],
                  x3 __asm__("x3") = a[3], x4 __asm__("x4") = a[4], x5 __asm__("x5") = a[5];
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    return x0;
#else
#error "no system calls for this architecture"
#endif
}

/* "errno N", "ok", "signal N", "exit N": what one call came to, in a child that it may end. "slow" is 0.2 s. */
static void one_call(const char *name, long nr, const long *arguments, volatile int64_t *result) {
    char answer[32];
    int ended;
    *result = NOT_BACK;
    pid_t child = fork();
    if (!child) {
        struct itimerval patience = {.it_value = {.tv_usec = 200000}};
        setitimer(ITIMER_REAL, &patience, NULL);
        *result = raw_call(nr, arguments);
        _exit(0);
    }
    waitpid(child, &ended, 0);
    if (*result != NOT_BACK)
        *result < 0 && *result > -4096 ? snprintf(answer, sizeof answer, "errno %lld", (long long)-*result)
                                       : snprintf(answer, sizeof answer, "ok");
    else if (WIFSIGNALED(ended))
        WTERMSIG(ended) == SIGALRM ? snprintf(answer, sizeof answer, "slow")
                                   : snprintf(answer, sizeof answer, "signal %d", WTERMSIG(ended));
    else
        snprintf(answer, sizeof answer, "exit %d", WEXITSTATUS(ended));
    word(name, answer);
}

static void calls(char **words) {
    volatile int64_t *result = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    begin("calls", '{');
    for (char **at = words; *at; at++) {
        if (strncmp(*at, "call=", 5))
            continue;
        long arguments[7] = {0};
        char *copy = strdup(*at + 5), *save;
        int count = 0;
        for (char *part = strtok_r(copy, ",", &save); part && count < 7; part = strtok_r(NULL, ",", &save))
            arguments[count++] = (long)strtoull(part, NULL, 0);
        one_call(*at + 5, arguments[0], arguments + 1, result);
        free(copy);
    }
    end('}');
    for (; *words && strcmp(*words, "syscalls"); words++)
        ;
    if (!*words)
        return;
    static const long ones[6] = {-1, -1, -1, -1, -1, -1};
    begin("syscalls", '{');
    for (int nr = 0; nr < CALLS; nr++) {
        char name[16];
        snprintf(name, sizeof name, "%d", nr);
        if (nr == SYS_sync) /* would write out the whole machine's files */
            word(name, "left out");
        else
            one_call(name, nr, ones, result);
        fflush(stdout);
    }
    end('}');
}

static void opens(char **words) {
    begin("opens", '{');
    for (; *words; words++) {
        char *name = strncmp(*words, "open=", 5) ? NULL : strchr(*words, ':');
        if (!name)
            continue;
        int fd = openat(atoi(*words + 5), name + 1, O_RDONLY | O_CLOEXEC);
        number(*words + 5, fd < 0 ? errno : 0);
        if (fd >= 0)
            close(fd);
    }
    end('}');
}

int main(int argc, char **argv, char **envp) {
    (void)argc;
    begin(NULL, '{');
    lines("argv", argv);
    lines("env", envp);
    descriptors(); /* before anything else opens one */
    ids();
    status();
    namespaces();
    limits();
    devices();
    sysctls();
    interfaces();
    opens(argv + 1);
    paths(argv + 1);
    fflush(stdout); /* or each fork below would print it again */
    calls(argv + 1);
    end('}');
    putchar('\n');
    fflush(stdout);
    for (; *argv; argv++)
        if (!strncmp(*argv, "sleep=", 6))
            usleep((useconds_t)(atof(*argv + 6) * 1e6));
    return 0;
}
