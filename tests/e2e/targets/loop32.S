# SPDX-License-Identifier: GPL-2.0-or-later
# A 32-bit program: sleeps in small steps until it is killed. It has functions named as an allocator's, which must not be probed.
	.globl _start, malloc, free
	.text
_start:
	mov $162, %eax			# nanosleep
	mov $pause, %ebx
	xor %ecx, %ecx
	int $0x80
	jmp _start
	.type malloc, @function
malloc:	push %ebp
	xor %eax, %eax
	pop %ebp
	ret
	.size malloc, .-malloc
	.type free, @function
free:	push %ebp
	pop %ebp
	ret
	.size free, .-free
	.section .rodata
pause:	.long 0, 50000000
	.section .note.GNU-stack, "", @progbits
