package workers

import (
	"errors"
	"fmt"
)

// StepError says which step could not be done.
type StepError struct {
	Step      Step
	Permanent bool // trying again cannot help: a newer document must come first
	Err       error
}

// Error names the step and its target.
func (e *StepError) Error() string {
	return fmt.Sprintf("%s %s: %v", e.Step.Kind, e.Step.Target, e.Err)
}

// Unwrap gives the cause.
func (e *StepError) Unwrap() error { return e.Err }

// Retryable says whether the same step may succeed later under the same document.
func (e *StepError) Retryable() bool { return !e.Permanent }

// permanent marks an error as one that trying again cannot cure.
type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

// Permanent marks err as one that trying again cannot cure.
func Permanent(err error) error { return permanent{err} }

// IsPermanent says whether err was marked by Permanent.
func IsPermanent(err error) bool {
	var p permanent
	return errors.As(err, &p)
}

// stepError wraps what Apply returned.
func stepError(s Step, err error) *StepError {
	return &StepError{Step: s, Permanent: IsPermanent(err), Err: err}
}

// ErrSuperseded says that a newer document for the object came while its plan was carried out. The rest of the plan is left undone.
var ErrSuperseded = errors.New("a newer document has come")
