//! A host that forbids io_uring, played for one thread: what a container's seccomp profile does.
#![expect(unsafe_code, reason = "filters of system calls are set by raw calls")]

use libc::{BPF_ABS, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, sock_filter, sock_fprog};

/// Runs `work` on a thread whose io_uring system calls fail with `EPERM`, and returns its result.
///
/// # Panics
/// When `work` does, or the host does not let its calls be filtered.
pub fn without_io_uring<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            forbid();
            work()
        });
        match thread.join() {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Filters the calls of this thread, for good.
fn forbid() {
    let step =
        |code: u32, k: u32, if_equal: u8| sock_filter { code: code as u16, jt: if_equal, jf: 0, k };
    let mut filter = [
        // The number of the call is the first field of what a filter sees.
        step(BPF_LD | BPF_W | BPF_ABS, 0, 0),
        step(BPF_JMP | BPF_JEQ | BPF_K, libc::SYS_io_uring_setup as u32, 1),
        step(BPF_RET | BPF_K, libc::SECCOMP_RET_ALLOW, 0),
        step(BPF_RET | BPF_K, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32, 0),
    ];
    let program = sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the first call takes plain numbers; the second reads the program, which lives until
    // it returns. Both change this thread alone.
    let refused = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
            || libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) != 0
    };
    assert!(!refused, "the host does not let calls be filtered");
}
