package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"
)

// notify tells the service manager something (sd_notify(3)); without one it does nothing.
func notify(state string) error {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	if path[0] == '@' {
		path = "\x00" + path[1:]
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("tell the service manager: %w", err)
	}
	defer c.Close()
	if _, err := c.Write([]byte(state)); err != nil {
		return fmt.Errorf("tell the service manager: %w", err)
	}
	return nil
}

// watchdog tells the service manager that the server is ready, then again and again that it is alive and what it does, until ctx ends.
// Alive is a server whose loop answers. One that has stopped deciding is alive: it says why, and to start it again would not help.
func (s *server) watchdog(ctx context.Context) error {
	pause := 30 * time.Second
	if usec, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64); err == nil && usec > 0 {
		pause = time.Duration(usec) * time.Microsecond / 3
	}
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for state := "READY=1\n"; ; state = "WATCHDOG=1\n" {
		st := s.plane.Dispatch.Status()
		text := fmt.Sprintf("decision %d, standby", st.Applied)
		if st.Active {
			text = fmt.Sprintf("decision %d, this server decides", st.Applied)
		}
		if err := s.plane.Health(); err != nil {
			text = "not well: " + oneLine(err.Error())
		}
		if err := notify(state + "STATUS=" + text); err != nil {
			s.log.Warn("the service manager does not hear", "error", err)
		}
		select {
		case <-ctx.Done():
			return notify("STOPPING=1")
		case <-tick.C:
		}
	}
}
