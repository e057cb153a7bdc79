/* Takes over process numbers that have become free, by clone3's set_tid, and says whether anybody signalled who has them now.
 *
 * One word and its numbers a line on stdin, one line back:
 *   take PID...    a process with each of these numbers: "taken", or "lost PID ERRNO"
 *   seen           "PID alive|stopped|gone SIGNALS", for each, with commas between: how many signals it was sent that can be caught
 *   leave          ends them: "left"
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 16, TRIES = 10000 };

static struct { pid_t pid; volatile int *signals; } taken[MOST];
static int count;
static volatile int *mine;

static void note(int signal)
{
    (void)signal;
    (*mine)++;
}

/* In a session of its own, so that the number names its group of processes too. */
static void stranger(volatile int *signals)
{
    sigset_t none;
    struct sigaction action = { .sa_handler = note };
    mine = signals;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    sigfillset(&action.sa_mask);
    for (int number = 1; number < NSIG; number++)
        sigaction(number, &action, NULL);
    setsid();
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signals[1] = 1;
    for (;;)
        pause();
}

/* A number stays taken until its last owner is reaped, which is somebody else's work. */
static int take(pid_t pid)
{
    volatile int *signals = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct clone_args args = { .exit_signal = SIGCHLD, .set_tid = (uintptr_t)&pid, .set_tid_size = 1 };
    struct timespec moment = { 0, 1000000 };
    sigset_t all, before;
    long got = -1;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before); /* the child has no handlers of its own yet */
    for (int i = 0; i < TRIES; i++) {
        got = syscall(SYS_clone3, &args, sizeof args);
        if (got >= 0 || errno != EEXIST)
            break;
        nanosleep(&moment, NULL);
    }
    if (!got)
        stranger(signals);
    sigprocmask(SIG_SETMASK, &before, NULL);
    if (got < 0) {
        munmap((void *)signals, 4096);
        return -1;
    }
    while (!signals[1])
        nanosleep(&moment, NULL);
    taken[count].pid = pid;
    taken[count++].signals = signals;
    return 0;
}

static void take_all(char *words)
{
    for (char *word; (word = strtok(words, " ")) && count < MOST; words = NULL)
        if (take(atoi(word))) {
            printf("lost %s %s\n", word, strerrorname_np(errno));
            return;
        }
    puts("taken");
}

static void tell(void)
{
    for (int i = 0; i < count; i++) {
        siginfo_t info = { 0 };
        const char *state = "alive";
        if (waitid(P_PID, taken[i].pid, &info, WEXITED | WSTOPPED | WNOHANG | WNOWAIT) || info.si_pid)
            state = info.si_code == CLD_STOPPED ? "stopped" : "gone";
        printf("%s%d %s %d", i ? "," : "", taken[i].pid, state, *taken[i].signals);
    }
    puts("");
}

static void leave(void)
{
    while (count) {
        count--;
        kill(taken[count].pid, SIGKILL);
        waitpid(taken[count].pid, NULL, 0);
        munmap((void *)taken[count].signals, 4096);
    }
}

int main(void)
{
    char line[256];
    setvbuf(stdout, NULL, _IOLBF, 0);
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        if (!strncmp(line, "take ", 5))
            take_all(line + 5);
        else if (!strcmp(line, "seen"))
            tell();
        else {
            leave();
            puts("left");
        }
    }
    leave();
    return 0;
}
