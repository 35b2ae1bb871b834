package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"cloudengine/workers/netspace"
)

// idle is how long a TCP connection may say nothing, and take to say something or to hear it (RFC 7766, 6.2.3: some seconds).
const idle = 10 * time.Second

func listenTCP(namespace, device string) (all []net.Listener, err error) {
	err = netspace.Inside(namespace, func() error {
		for _, network := range []string{"tcp4", "tcp6"} {
			l, err := netspace.ListenTCP(network, device, port)
			if err != nil {
				return err
			}
			all = append(all, l)
		}
		return nil
	})
	if err != nil {
		for _, l := range all {
			l.Close()
		}
		return nil, fmt.Errorf("listen for DNS in %s: %w", namespace, err)
	}
	return all, nil
}

// acceptTCP serves the connections of guests until ctx ends. It closes l.
func (s *Server) acceptTCP(ctx context.Context, l net.Listener) error {
	var all sync.WaitGroup
	defer all.Wait()
	defer l.Close()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	for {
		c, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("accept connection: %w", err)
		}
		if err != nil { // that connection is gone already, or there are too many files: it may be better soon
			s.told.Do(func() { s.opt.Log.Warn("accept connection of guest", "error", err) })
			select {
			case <-ctx.Done():
			case <-time.After(50 * time.Millisecond):
			}
			continue
		}
		from, who := s.caller(c)
		if who == nil {
			c.Close()
			continue
		}
		all.Go(func() {
			defer who.conns.Add(-1)
			s.serveTCP(ctx, c, who, Query{From: from, TCP: true})
		})
	}
}

// caller finds the guest of a connection, which counts as its from then on; nil: it is nobody's, or one too many.
func (s *Server) caller(c net.Conn) (netip.Addr, *client) {
	from, ok := c.RemoteAddr().(*net.TCPAddr)
	to, ok2 := c.LocalAddr().(*net.TCPAddr)
	if !ok || !ok2 {
		return netip.Addr{}, nil
	}
	st, ip := s.now.Load(), from.AddrPort().Addr().Unmap()
	who := st.clients[ip]
	if who == nil || !st.zone.isServer(to.AddrPort().Addr().Unmap()) {
		s.count[ErrUnknown].Add(1)
		return ip, nil
	}
	if who.conns.Add(1) > mostConns {
		who.conns.Add(-1)
		return ip, nil
	}
	return ip, who
}

// serveTCP answers the queries of one connection, in any order, until it is idle or ctx ends. It closes c.
func (s *Server) serveTCP(ctx context.Context, c net.Conn, who *client, q Query) {
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	var writing sync.Mutex
	for {
		if c.SetReadDeadline(time.Now().Add(idle)) != nil {
			return
		}
		var size [2]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			return
		}
		q.Data = make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(c, q.Data); err != nil || who.limit.Wait(ctx) != nil {
			return
		}
		s.answer(ctx, s.now.Load().zone, who, q, func(p []byte) {
			writing.Lock()
			defer writing.Unlock()
			if c.SetWriteDeadline(time.Now().Add(idle)) == nil {
				_, _ = c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(p))), p...)) // a client that is gone is seen by the next read
			}
		})
	}
}
