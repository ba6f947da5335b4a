/* confine: see confine.h.
 *
 * The list was made from what libuv, glibc and we call, run under strace(1), with the variants that other versions and
 * architectures use instead (name resolution loads libraries, so mapping code stays possible). Names that
 * libseccomp does not know on a machine are skipped. The end-to-end tests run with the filter on. */
#include "agent/confine.h"

#include "agent/exit.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <unistd.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#endif

void confine_memory(void)
{
    /* Which of our mappings a core file may hold: none. While we are still dumpable, or the file is root's. */
    int fd = open("/proc/self/coredump_filter", O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t written = write(fd, "0", 1);
        (void)written; /* without it the next line still keeps core files away, unless fs.suid_dumpable is set */
        (void)close(fd);
    }
    (void)prctl(PR_SET_DUMPABLE, 0);
}

#if defined(PENSTOCK_HAVE_SECCOMP) && !defined(SANITIZED)

#include <errno.h>
#include <seccomp.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

static const char *const needed[] = {
    /* files */
    "read", "readv", "pread64", "preadv", "preadv2", "write", "writev", "pwrite64", "pwritev", "pwritev2", "open",
    "openat", "close", "close_range", "fstat", "fstat64", "stat", "stat64", "lstat", "lstat64", "newfstatat",
    "fstatat64", "statx", "access", "faccessat", "faccessat2", "readlink", "readlinkat", "getdents64", "lseek",
    "_llseek", "ftruncate", "ftruncate64", "fallocate", "fdatasync", "fsync", "sync_file_range", "fadvise64",
    "fadvise64_64", "flock", "fcntl", "fcntl64", "rename", "renameat", "renameat2", "unlink", "unlinkat", "mkdir",
    "mkdirat", "rmdir", "linkat", "chmod", "fchmod", "fchmodat", "chown", "fchown", "fchownat", "lchown", "umask",
    "statfs", "statfs64", "fstatfs", "fstatfs64", "getcwd", "dup", "dup2", "dup3", "pipe", "pipe2", "ioctl",
    /* sockets; socket() itself by family, below */
    "bind", "listen", "accept", "accept4", "connect", "getsockname", "getpeername", "getsockopt", "setsockopt",
    "shutdown", "send", "sendto", "sendmsg", "sendmmsg", "recv", "recvfrom", "recvmsg", "recvmmsg", "recvmmsg_time64",
    /* waiting */
    "poll", "ppoll", "ppoll_time64", "select", "_newselect", "pselect6", "epoll_create", "epoll_create1", "epoll_ctl",
    "epoll_wait", "epoll_pwait", "epoll_pwait2", "eventfd", "eventfd2", "nanosleep", "clock_nanosleep",
    "clock_nanosleep_time64", "restart_syscall",
    /* memory */
    "brk", "mmap", "mmap2", "mprotect", "munmap", "mremap", "madvise", "mincore",
    /* threads; clone() for threads only, below */
    "set_robust_list", "rseq", "set_tid_address", "futex", "futex_time64", "futex_waitv", "membarrier", "sched_yield",
    "sched_getaffinity", "sched_getparam", "sched_getscheduler", "gettid", "getpid", "getppid", "getpgrp", "getpgid",
    "getsid", "exit", "exit_group", "tgkill", "rt_sigaction", "rt_sigprocmask", "rt_sigpending", "rt_sigtimedwait",
    "rt_sigtimedwait_time64", "rt_sigsuspend", "rt_sigreturn", "sigreturn", "sigaltstack",
    /* time, chance, who and where we are */
    "clock_gettime", "clock_gettime64", "clock_getres", "clock_getres_time64", "gettimeofday", "time", "times",
    "getrandom", "getrusage", "sysinfo", "uname", "getcpu", "getuid", "geteuid", "getgid", "getegid", "getresuid",
    "getresgid", "getgroups", "getuid32", "geteuid32", "getgid32", "getegid32", "getrlimit", "ugetrlimit",
    NULL,
};

/* What tells of an intruder. */
static const char *const never[] = {
    "execve", "execveat", "ptrace", "process_vm_readv", "process_vm_writev", "kcmp", "mount", "umount2", "pivot_root",
    "chroot", "setns", "unshare", "init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load",
    "bpf", "perf_event_open", "userfaultfd", "add_key", "request_key", "keyctl", "reboot", "swapon", "swapoff",
    "open_by_handle_at", "memfd_create",
    NULL,
};

/* Asked for where an older way is at hand: "there is no such call" makes libraries take that one. */
static const char *const absent[] = {"clone3", "io_uring_setup", NULL};

static int add_names(scmp_filter_ctx filter, uint32_t action, const char *const *names)
{
    for (; *names != NULL; names++) {
        int number = seccomp_syscall_resolve_name(*names);
        if (number == __NR_SCMP_ERROR || number < 0)
            continue;
        int r = seccomp_rule_add(filter, action, number, 0);
        if (r < 0)
            return r;
    }
    return 0;
}

#define CLONE_THREAD_FLAG 0x00010000u /* CLONE_THREAD of <linux/sched.h> */
#if defined(__s390__) || defined(__s390x__)
#define CLONE_FLAGS_AT SCMP_A1
#else
#define CLONE_FLAGS_AT SCMP_A0
#endif

static int add_with_arguments(scmp_filter_ctx filter)
{
    static const int families[] = {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK}; /* the last for name lookups */
    int r = 0;
    for (unsigned i = 0; r == 0 && i < sizeof families / sizeof families[0]; i++)
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1, SCMP_A0(SCMP_CMP_EQ, (uint64_t)families[i], 0));
    if (r == 0)
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
                             CLONE_FLAGS_AT(SCMP_CMP_MASKED_EQ, CLONE_THREAD_FLAG, CLONE_THREAD_FLAG));
    if (r == 0)
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 1, SCMP_A0(SCMP_CMP_EQ, PR_SET_NAME, 0));
    /* getrlimit(3) is prlimit64(2) without a new limit. */
    if (r == 0)
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), 1, SCMP_A2(SCMP_CMP_EQ, 0, 0));
    /* raise(3) and abort(3) of older C libraries; other processes get no signals of ours. */
    if (r == 0)
        r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(kill), 1, SCMP_A0(SCMP_CMP_EQ, (uint64_t)getpid(), 0));
    return r;
}

/* Runs as a signal handler, in any state: only what signal-safety(7) lists. */
static void on_never(int signal, siginfo_t *info, void *context)
{
    char text[] = "penstock: system call 0000 is none of ours: the process ends\n";
    char *digit = text + sizeof "penstock: system call 0000" - 1;
    (void)signal, (void)context;
    for (unsigned n = (unsigned)info->si_syscall, places = 0; places < 4; n /= 10, places++)
        *--digit = (char)('0' + n % 10);
    ssize_t written = write(STDERR_FILENO, text, sizeof text - 1);
    (void)written;
    _exit(EXIT_INTERNAL);
}

static int build(scmp_filter_ctx filter)
{
    /* One tree instead of a line of comparisons; all threads, also those of libuv's pool that run already. */
    (void)seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    int r = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
    if (r == 0)
        r = add_names(filter, SCMP_ACT_ALLOW, needed);
    if (r == 0)
        r = add_names(filter, SCMP_ACT_TRAP, never);
    if (r == 0)
        r = add_names(filter, SCMP_ACT_ERRNO(ENOSYS), absent);
    if (r == 0)
        r = add_with_arguments(filter);
    return r == 0 ? seccomp_load(filter) : r;
}

enum err confine_system_calls(struct fault *why)
{
    struct sigaction action = {.sa_sigaction = on_never, .sa_flags = SA_SIGINFO};
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    if (filter == NULL)
        return fault_set(why, ERR_IO, "system call filter: it cannot be made");
    (void)sigaction(SIGSYS, &action, NULL);
    int r = build(filter);
    seccomp_release(filter);
    return r == 0 ? OK : fault_sys(why, -r, "system call filter");
}

#else

enum err confine_system_calls(struct fault *why)
{
    return fault_set(why, ERR_UNSUPPORTED, "system call filter: not built in");
}

#endif
