// Lets clients in that know the key. Any number of others, silent or slow ones too, keep nobody
// waiting.
#ifndef TVM_EFF_HANDSHAKE_H_
#define TVM_EFF_HANDSHAKE_H_

#include <poll.h>

#include <chrono>
#include <optional>
#include <string>
#include <vector>

namespace tvm_eff {

// A client that was let in.
struct Client {
  int socket;
  // Seconds the session may last; 0: for ever.
  double timeout;
};

// The clients that have connected and not yet said all of TVM's greeting: a magic number, the
// length of a key and the key.
class Handshakes {
 public:
  explicit Handshakes(std::string key) : key_(std::move(key)) {}

  // Begins to greet a client that has just connected.
  void Add(int socket);
  // Appends what to wait for.
  void Watch(std::vector<pollfd>* watched) const;
  // Milliseconds until one of them has taken too long; -1: there is none.
  int Timeout() const;
  // Goes on with those that poll() has something of, which may let one in. The others are closed:
  // those that are no TVM client, ask for another key, or take too long.
  std::optional<Client> Proceed(const std::vector<pollfd>& polled);

 private:
  using Clock = std::chrono::steady_clock;
  struct Greeting {
    int socket;
    Clock::time_point until;
    std::string received;
  };
  enum class State { kUnfinished, kRefused, kWhole };

  State Read(Greeting* greeting) const;
  std::optional<Client> Answer(const Greeting& greeting) const;

  std::string key_;
  std::vector<Greeting> greetings_;
};

}  // namespace tvm_eff

#endif  // TVM_EFF_HANDSHAKE_H_
