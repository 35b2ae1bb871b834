package mysql_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"testing"

	"cloudengine/projections/mysql"
)

// TestAStopIsNoError: whichever way the statement that it meets says so; and what fails without one, or for another reason, is.
func TestAStopIsNoError(t *testing.T) {
	over, stop := context.WithCancel(t.Context())
	stop()
	other := errors.New("another")
	for _, err := range []error{nil, context.Canceled, context.DeadlineExceeded, driver.ErrBadConn} {
		wrapped := err
		if err != nil {
			wrapped = fmt.Errorf("drop table: %w", err)
		}
		if got := mysql.Ended(over, wrapped); got != nil {
			t.Errorf("stopped with %v: %v", wrapped, got)
		}
		if got := mysql.Ended(t.Context(), wrapped); !errors.Is(got, err) {
			t.Errorf("not stopped, %v: %v", wrapped, got)
		}
	}
	if got := mysql.Ended(over, other); !errors.Is(got, other) {
		t.Errorf("stopped, and failed for another reason: %v", got)
	}
}
