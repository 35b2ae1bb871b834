package main

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"

	"cloudengine/commands/api/client"
	"cloudengine/events"

	"github.com/nats-io/nats.go"
)

// Exit codes, as --help tells.
const (
	exitOK       = 0
	exitError    = 1
	exitUsage    = 2
	exitNotFound = 3
	exitConflict = 4
	exitGuard    = 5
	exitTimeout  = 6
)

// usageError is a mistake in the command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, a ...any) error { return usageError{fmt.Errorf(format, a...)} }

// errTimeout says that the time was over before the end of an operation, which goes on.
var errTimeout = errors.New("time is over; the operation goes on")

var exitOfCode = map[string]int{
	events.CodeInvalid: exitUsage, events.CodeNotFound: exitNotFound, events.CodeGuard: exitGuard,
	events.CodeNameTaken: exitConflict, events.CodeChanged: exitConflict, events.CodeConflict: exitConflict,
	events.CodeNoCapacity: exitConflict, events.CodeIDReused: exitConflict, events.CodeIDTooOld: exitConflict,
	events.CodeBusy: exitTimeout, events.CodeUnavailable: exitTimeout,
}

func exitCode(err error) int {
	var usage usageError
	var no *client.Refusal
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &usage), strings.HasPrefix(err.Error(), "unknown command"),
		strings.HasPrefix(err.Error(), "required flag"): // cobra has no types for them
		return exitUsage
	case errors.As(err, &no):
		if code, ok := exitOfCode[no.Outcome.Code]; ok {
			return code
		}
		return exitError
	case errors.Is(err, errTampered):
		return exitConflict
	case errors.Is(err, errTimeout), errors.Is(err, client.ErrNoAnswer), errors.Is(err, context.DeadlineExceeded):
		return exitTimeout
	}
	return exitError
}

// explain adds to an error what to do about it.
func explain(err error) string {
	text := err.Error()
	var no *client.Refusal
	switch {
	case errors.As(err, &no) && no.Outcome.Guard != "" && !strings.Contains(text, "--override"):
		return text + fmt.Sprintf("\nIf you know better than this guard: --override=%s --reason \"…\" (both stay in the log for ever)", no.Outcome.Guard)
	case errors.Is(err, nats.ErrPermissionViolation):
		return text + "\nYour role does not allow this, or --user is not the user of your key."
	case errors.Is(err, nats.ErrMaxPayload):
		return text + fmt.Sprintf("\nA request may have at most %d bytes.", events.MaxRequest)
	case errors.Is(err, client.ErrNoAnswer):
		return text + "\nWhether it was decided is not known. Ask again with --id and the id above: it is never decided twice."
	}
	return text
}

// release is the version of a release; the linker sets it (-X main.release=…).
var release string

func version() string {
	if release != "" {
		return release
	}
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "unknown"
	}
	return info.Main.Version
}
