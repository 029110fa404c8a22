import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.Collection;
import java.util.Map;
import java.util.TreeSet;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.state.ConnectionState;
import org.apache.curator.retry.RetryForever;
import org.apache.curator.x.discovery.ServiceCache;
import org.apache.curator.x.discovery.ServiceDiscovery;
import org.apache.curator.x.discovery.ServiceDiscoveryBuilder;
import org.apache.curator.x.discovery.ServiceInstance;
import org.apache.curator.x.discovery.ServiceProvider;
import org.apache.curator.x.discovery.details.ServiceCacheListener;
import org.springframework.cloud.zookeeper.discovery.ZookeeperInstance;

/**
 * A service of an existing fleet, as Apache Curator makes them.
 *
 * <p>Arguments: CONNECT BASE SERVICE PAYLOAD, the last of void, text, map or spring. It prints a line `cache`
 * whenever its ServiceCache changes, with `address:port=payload` of each instance behind a tab, and answers commands on its
 * input: `query` and `provider` by such a line, `register ADDRESS PORT ID TEXT`, `update TEXT` and `unregister` by `done`.
 * Whatever is thrown is printed as `threw`.
 */
public class CuratorClient<T> {
    private final ServiceDiscovery<T> discovery;
    private final ServiceProvider<T> provider;
    private final String service;
    private final String payload;
    private ServiceInstance<T> ours;

    public static void main(String[] arguments) throws Exception {
        switch (arguments[3]) {
            case "void" -> new CuratorClient<>(Void.class, arguments).serve();
            case "text" -> new CuratorClient<>(String.class, arguments).serve();
            case "map" -> new CuratorClient<>(Object.class, arguments).serve();
            case "spring" -> new CuratorClient<>(ZookeeperInstance.class, arguments).serve();
            default -> throw new IllegalArgumentException(arguments[3]);
        }
    }

    CuratorClient(Class<T> payloadClass, String[] arguments) throws Exception {
        CuratorFramework client = CuratorFrameworkFactory.newClient(arguments[0], 6000, 2000, new RetryForever(200));
        client.start();
        service = arguments[2];
        payload = arguments[3];
        discovery = ServiceDiscoveryBuilder.builder(payloadClass).client(client).basePath(arguments[1]).build();
        discovery.start();
        provider = discovery.serviceProviderBuilder().serviceName(service).build();
        provider.start();
        ServiceCache<T> cache = discovery.serviceCacheBuilder().name(service).build();
        cache.addListener(new ServiceCacheListener() {
            @Override
            public void cacheChanged() {
                say("cache", cache.getInstances());
            }

            @Override
            public void stateChanged(CuratorFramework framework, ConnectionState state) {
                System.out.println("state " + state);
            }
        });
        cache.start();
        say("cache", cache.getInstances());
    }

    private void serve() throws Exception {
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in));
        for (String line = input.readLine(); line != null; line = input.readLine()) {
            try {
                answer(line.split(" ", 5));
            } catch (Exception e) {
                System.out.println("threw " + e);
            }
        }
        System.exit(0);
    }

    private void answer(String[] words) throws Exception {
        switch (words[0]) {
            case "query" -> say("query", discovery.queryForInstances(service));
            case "provider" -> say("provider", provider.getAllInstances());
            case "register" -> {
                ours = instance(words[1], Integer.parseInt(words[2]), words[3], words[4]);
                discovery.registerService(ours);
                System.out.println("done");
            }
            case "update" -> {
                ours = instance(ours.getAddress(), ours.getPort(), ours.getId(), words[1]);
                discovery.updateService(ours);
                System.out.println("done");
            }
            case "unregister" -> {
                discovery.unregisterService(ours);
                System.out.println("done");
            }
            default -> throw new IllegalArgumentException(words[0]);
        }
    }

    @SuppressWarnings("unchecked")
    private ServiceInstance<T> instance(String address, int port, String id, String text) throws Exception {
        var builder = ServiceInstance.<T>builder().name(service).address(address).port(port).id(id);
        return builder.payload((T) switch (payload) {
            case "text" -> text;
            case "map" -> new java.util.LinkedHashMap<>(Map.of("version", text));
            case "spring" -> {
                ZookeeperInstance instance = new ZookeeperInstance();
                instance.id = id;
                instance.name = service;
                instance.metadata.put("instance_status", "UP");
                instance.metadata.put("version", text);
                yield instance;
            }
            default -> null;
        }).build();
    }

    private void say(String what, Collection<ServiceInstance<T>> instances) {
        TreeSet<String> sorted = new TreeSet<>();
        for (ServiceInstance<T> instance : instances) {
            Object content = instance.getPayload();
            Object shown = content instanceof ZookeeperInstance spring ? spring.metadata : content;
            sorted.add(instance.getAddress() + ":" + instance.getPort() + "=" + shown);
        }
        System.out.println(what + "\t" + String.join("\t", sorted));
    }
}
