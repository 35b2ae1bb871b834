package host

import (
	"context"
	"fmt"
	"strconv"
)

// domainUUID reads what libxl wrote when it made the domain: /local/domain/<domid>/vm = /vm/<uuid>.
func domainUUID(ctx context.Context, s Store, domid int) (string, error) {
	v, err := s.Read(ctx, "/local/domain/"+strconv.Itoa(domid)+"/vm")
	if err != nil {
		return "", fmt.Errorf("read UUID of domain %d: %w", domid, err)
	}
	return v[min(len("/vm/"), len(v)):], nil
}

// findDomain finds a domain by its name and UUID. The newest wins.
func findDomain(ctx context.Context, s Store, name, uuid string) (int, error) {
	ids, err := s.Children(ctx, "/local/domain")
	if err != nil {
		return 0, fmt.Errorf("list domains in xenstore: %w", err)
	}
	found := -1
	for _, id := range ids {
		domid, err := strconv.Atoi(id)
		if err != nil || domid <= found || domid == 0 {
			continue
		}
		n, err := s.Read(ctx, "/local/domain/"+id+"/name")
		if err != nil || n != name {
			continue
		}
		if u, err := domainUUID(ctx, s, domid); err == nil && u == uuid {
			found = domid
		}
	}
	if found < 0 {
		return 0, fmt.Errorf("find domain %s after it was made: %w", name, errGone)
	}
	return found, nil
}
