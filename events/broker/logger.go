package broker

import (
	"fmt"
	"log/slog"
	"sync/atomic"

	"golang.org/x/time/rate"
)

// natsLogger gives nats-server's messages to slog. Notices are ours to tell, so they count as debug. Whoever can reach the port can
// cause warnings and errors, so no more than logPerSec are told; how many were left out is told with the next.
type natsLogger struct {
	log   *slog.Logger
	limit *rate.Limiter
	left  *atomic.Int64
}

const logPerSec = 10

func newNatsLogger(log *slog.Logger) natsLogger {
	return natsLogger{log, rate.NewLimiter(logPerSec, 10*logPerSec), &atomic.Int64{}}
}

func (l natsLogger) some(tell func(string, ...any), f string, v []any) {
	if !l.limit.Allow() {
		l.left.Add(1)
		return
	}
	if n := l.left.Swap(0); n > 0 {
		tell(fmt.Sprintf(f, v...), "left_out_before", n)
		return
	}
	tell(fmt.Sprintf(f, v...))
}

func (l natsLogger) Noticef(f string, v ...any) { l.log.Debug(fmt.Sprintf(f, v...)) }
func (l natsLogger) Warnf(f string, v ...any)   { l.some(l.log.Warn, f, v) }
func (l natsLogger) Fatalf(f string, v ...any)  { l.log.Error(fmt.Sprintf(f, v...)) }
func (l natsLogger) Errorf(f string, v ...any)  { l.some(l.log.Error, f, v) }
func (l natsLogger) Debugf(string, ...any)      {}
func (l natsLogger) Tracef(string, ...any)      {}
