// Package rules holds the project's own rules as tests: which package may import what, how large files and functions may be, that every
// package says what it is for. It has no other content.
package rules
