package netboot

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// TFTP (RFC 1350, options of RFC 2347 to 2349), reading only, from memory, by exact name. It is written here and not
// taken from a library because it faces machines that may be hostile: nothing they send can name a file, start more
// than a fixed number of transfers, or hold one for longer than a fixed time.
const (
	tftpPort         = 69
	tftpTransfers    = 64                     // at a time
	tftpPerClient    = 4                      // of them for one address
	tftpRetry        = 500 * time.Millisecond // first; doubles
	tftpRetries      = 6                      // of one block: about 30 s
	tftpTransferTime = 5 * time.Minute
	tftpMaxFile      = 16 << 20
	tftpMaxBlock     = 1456 // what fits into an Ethernet frame with some tunnels
	tftpMinBlock     = 8    // RFC 2348

	opRead, opWrite, opData, opAck, opError, opOptions = 1, 2, 3, 4, 5, 6
)

var (
	errTFTPMalformed = errors.New("malformed request")
	errTFTPOp        = errors.New("only reading in octet mode is served")
)

// readRequest is a decoded TFTP read request.
type readRequest struct {
	file    string
	block   int  // 0: not asked for
	size    bool // tsize was asked for
	options bool // any option that we know was asked for
}

func readTFTPFiles(paths map[string]string) (map[string][]byte, error) {
	files := map[string][]byte{}
	for name, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read boot program for TFTP: %w (apt-get install ipxe)", err)
		}
		if len(data) > tftpMaxFile {
			return nil, fmt.Errorf("read boot program for TFTP: %s has %d bytes, at most %d", path, len(data), tftpMaxFile)
		}
		files[name] = data
	}
	return files, nil
}

// parseReadRequest decodes a read request. Unknown options are ignored, as RFC 2347 asks.
func parseReadRequest(packet []byte) (readRequest, error) {
	var req readRequest
	if len(packet) < 4 || len(packet) > 512 || packet[len(packet)-1] != 0 {
		return req, errTFTPMalformed
	}
	switch binary.BigEndian.Uint16(packet) {
	case opRead:
	case opWrite:
		return req, errTFTPOp
	default:
		return req, errTFTPMalformed
	}
	words := bytes.Split(packet[2:len(packet)-1], []byte{0})
	if len(words) < 2 || len(words)%2 != 0 {
		return req, errTFTPMalformed
	}
	if !strings.EqualFold(string(words[1]), "octet") {
		return req, errTFTPOp
	}
	req.file = strings.TrimPrefix(string(words[0]), "/")
	for i := 2; i < len(words); i += 2 {
		switch strings.ToLower(string(words[i])) {
		case "blksize":
			n, err := strconv.ParseUint(string(words[i+1]), 10, 16)
			if err != nil || n < tftpMinBlock {
				return req, errTFTPMalformed
			}
			req.block, req.options = min(int(n), tftpMaxBlock), true
		case "tsize":
			req.size, req.options = true, true
		}
	}
	return req, nil
}

func (s *Service) serveTFTP(ctx context.Context) error {
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(s.opt.ServerAddress, tftpPort)))
	if err != nil {
		return fmt.Errorf("listen for TFTP: %w", err)
	}
	return s.answerTFTP(ctx, conn)
}

// transfers counts what is under way.
type transfers struct {
	mu    sync.Mutex
	all   int
	peers map[netip.Addr]int
	wait  sync.WaitGroup
}

func (t *transfers) begin(peer netip.Addr) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all >= tftpTransfers || t.peers[peer] >= tftpPerClient {
		return false
	}
	t.all++
	t.peers[peer]++
	return true
}

func (t *transfers) end(peer netip.Addr) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all--
	if t.peers[peer]--; t.peers[peer] == 0 {
		delete(t.peers, peer)
	}
}

// answerTFTP serves on conn until ctx ends, and returns when all transfers have ended.
func (s *Service) answerTFTP(ctx context.Context, conn *net.UDPConn) error {
	running := transfers{peers: map[netip.Addr]int{}}
	defer running.wait.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	local := conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr()
	buf := make([]byte, maxDatagram)
	for {
		n, peer, err := conn.ReadFromUDPAddrPort(buf)
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("read TFTP request: %w", err)
		}
		if err != nil {
			continue // an ICMP error of an earlier answer
		}
		req, err := parseReadRequest(buf[:n])
		data, known := s.files[req.file]
		switch {
		case errors.Is(err, errTFTPOp):
			_, _ = conn.WriteToUDPAddrPort(tftpError(2, "only reading in octet mode"), peer)
		case err != nil: // no answer: it could be an error of a peer, and errors are not answered
		case !known:
			_, _ = conn.WriteToUDPAddrPort(tftpError(1, "no such file"), peer)
		case running.begin(peer.Addr()): // else it asks again
			running.wait.Go(func() {
				defer running.end(peer.Addr())
				if err := sendTFTP(ctx, local, peer, req, data); err != nil && ctx.Err() == nil {
					s.opt.Log.Info("send file by TFTP", "file", req.file, "to", peer, "error", err)
				}
			})
		}
	}
}

func tftpError(code uint16, text string) []byte {
	out := binary.BigEndian.AppendUint16([]byte{0, opError}, code)
	return append(append(out, text...), 0)
}

// sendTFTP sends one file from a port of its own.
func sendTFTP(ctx context.Context, local netip.Addr, peer netip.AddrPort, req readRequest, data []byte) error {
	conn, err := net.DialUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(local, 0)), net.UDPAddrFromAddrPort(peer))
	if err != nil {
		return fmt.Errorf("open transfer: %w", err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	deadline := time.Now().Add(tftpTransferTime)
	block := 512
	if req.options {
		ack := []byte{0, opOptions}
		if req.block > 0 {
			block = req.block
			ack = fmt.Appendf(ack, "blksize\x00%d\x00", block)
		}
		if req.size {
			ack = fmt.Appendf(ack, "tsize\x00%d\x00", len(data))
		}
		if err := exchange(conn, ack, 0, deadline); err != nil {
			return err
		}
	}
	for number := uint16(1); ; number++ { // block numbers wrap, as all clients expect
		part := data[:min(block, len(data))]
		packet := binary.BigEndian.AppendUint16([]byte{0, opData}, number)
		if err := exchange(conn, append(packet, part...), number, deadline); err != nil {
			return err
		}
		data = data[len(part):]
		if len(part) < block {
			return nil
		}
	}
}

// exchange sends a packet until its acknowledgement comes. An old acknowledgement is ignored and not answered, or the
// "sorcerer's apprentice" would double every packet (RFC 1123, 4.2.3.1).
func exchange(conn *net.UDPConn, packet []byte, number uint16, deadline time.Time) error {
	buf := make([]byte, maxDatagram)
	wait := tftpRetry
	for range tftpRetries {
		if _, err := conn.Write(packet); err != nil {
			return fmt.Errorf("send block %d: %w", number, err)
		}
		until := time.Now().Add(wait)
		if until.After(deadline) {
			return fmt.Errorf("send block %d: the transfer takes longer than %s", number, tftpTransferTime)
		}
		if err := conn.SetReadDeadline(until); err != nil {
			return fmt.Errorf("set deadline: %w", err)
		}
		acknowledged, err := awaitAck(conn, buf, number)
		if acknowledged || err != nil {
			return err
		}
		wait *= 2
	}
	return fmt.Errorf("send block %d: no acknowledgement", number)
}

func awaitAck(conn *net.UDPConn, buf []byte, number uint16) (bool, error) {
	for {
		n, err := conn.Read(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("await acknowledgement of block %d: %w", number, err)
		}
		if n < 4 {
			continue
		}
		switch binary.BigEndian.Uint16(buf) {
		case opAck:
			if binary.BigEndian.Uint16(buf[2:]) == number {
				return true, nil
			}
		case opError: // PXE ROMs ask for the size and then break off with code 8
			return false, fmt.Errorf("the client ended the transfer: code %d", binary.BigEndian.Uint16(buf[2:]))
		}
	}
}
