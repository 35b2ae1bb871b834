package dns

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/miekg/dns"
)

// patience is how long one upstream resolver has; the next one is asked then.
const patience = 2 * time.Second

// forward asks upstream, beside the loop, and sends what comes of it. Of a guest that has too many questions out already a query is dropped.
func (s *Server) forward(ctx context.Context, who *client, q Query, send func([]byte)) {
	req := &dns.Msg{}
	if req.Unpack(q.Data) != nil {
		return // it was unpacked before
	}
	select {
	case who.asked <- struct{}{}:
	default:
		return
	}
	go func() {
		defer func() { <-who.asked }()
		reply, err := ask(ctx, s.opt.Upstream, req, q.TCP)
		if ctx.Err() != nil {
			return
		}
		if err == nil && reply.Rcode > 15 { // of extensions that the guest has not asked for
			err = fmt.Errorf("answer of kind %d", reply.Rcode)
		}
		if err != nil {
			s.told.Do(func() { s.opt.Log.Warn("ask upstream resolvers", "error", err) })
			reply = (&dns.Msg{}).SetRcode(req, dns.RcodeServerFailure)
			reply.RecursionAvailable = true
		}
		if p, err := pack(reply, req, q.TCP); err == nil {
			send(p)
		}
	}()
}

// ask asks upstream resolvers, one after the other, by the way that the query came.
func ask(ctx context.Context, upstream []string, req *dns.Msg, tcp bool) (*dns.Msg, error) {
	q := (&dns.Msg{}).SetQuestion(req.Question[0].Name, req.Question[0].Qtype)
	q.CheckingDisabled, q.AuthenticatedData = req.CheckingDisabled, req.AuthenticatedData
	opt := req.IsEdns0()
	q.SetEdns0(mostUDP, opt != nil && opt.Do())
	c := &dns.Client{Net: "udp", UDPSize: mostUDP, Timeout: patience}
	if tcp {
		c.Net = "tcp"
	}
	var failed []error
	for _, server := range upstream {
		q.Id = dns.Id()
		reply, _, err := c.ExchangeContext(ctx, q, server)
		if err == nil && (len(reply.Question) != 1 || reply.Question[0] != q.Question[0]) {
			err = errors.New("it answers another question")
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("ask %s: %w", server, err))
			continue
		}
		reply.Id, reply.Question, reply.Authoritative = req.Id, req.Question, false
		reply.RecursionAvailable = true
		var extra []dns.RR
		for _, rr := range reply.Extra {
			if rr.Header().Rrtype != dns.TypeOPT { // which is between us and them
				extra = append(extra, rr)
			}
		}
		reply.Extra = extra
		return reply, nil
	}
	return nil, errors.Join(failed...)
}
