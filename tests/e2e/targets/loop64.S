# SPDX-License-Identifier: GPL-2.0-or-later
# A 64-bit program without libc and without allocator symbols: sleeps in small steps until it is killed.
	.globl _start
	.text
_start:
	mov $35, %eax			# nanosleep
	lea pause(%rip), %rdi
	xor %esi, %esi
	syscall
	jmp _start
	.section .rodata
pause:	.quad 0, 50000000
	.section .note.GNU-stack, "", @progbits
